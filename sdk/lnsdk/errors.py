"""The errors that lnsdk raises about its surroundings: data that cannot be used, engines that are not there."""


class InputError(ValueError):
    """Data that cannot be read or must not be used.

    Parameters
    ----------
    reason
        A short, stable code such as ``"missing-slice"``: what programs branch on.
    message
        One line for people: what was found, where, and what to do. It never holds a patient's name or ID from a
        file's content, and of files inside the folder or zip that was given only the last part of their path.

    Attributes
    ----------
    reason
        The code as given.
    """

    reason: str

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        """Return the one-line message."""
        return str(self.args[1])


# Named as a state of the machine: users read it as "tensorrt is unavailable".
class BackendUnavailable(RuntimeError):  # noqa: N818
    """An inference engine that is not installed or cannot run here; the message says why and what to install."""
