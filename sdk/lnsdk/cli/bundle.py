"""``lnsdk bundle``: sign a bundle, or check its files and signatures."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from getpass import getpass
from pathlib import Path

from lnsdk.bundle import read_bundle
from lnsdk.cli.console import Subcommand, command_parser, run_subcommand
from lnsdk.signing import check_trusted, sign

KEYS = "openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub.pem"
"""How a pair of keys is made."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the bundle was signed, or is what it should be."""
    parts = {
        "sign": Subcommand(_sign, "add a signature to a bundle"),
        "verify": Subcommand(_verify, "check every file of a bundle, and who signed it"),
    }
    examples = [KEYS, "lnsdk bundle sign model --key key.pem", "lnsdk bundle verify model --trusted-key key.pub.pem"]
    return run_subcommand("bundle", "Who vouches for a model.", parts, examples, arguments)


def _sign(arguments: Sequence[str]) -> int:
    options = _parser_sign().parse_args(arguments)
    password = getpass("password of the key: ").encode() if options.password else None
    signature = sign(options.bundle, options.key, password)
    print(f"{options.bundle} is signed with {signature.key}")
    return 0


def _verify(arguments: Sequence[str]) -> int:
    options = _parser_verify().parse_args(arguments)
    bundle = read_bundle(options.bundle)
    print(f"{bundle.name} {bundle.version}: {len(bundle.files)} files are what the description says")
    print(f"sha256 {bundle.sha256}")
    for signature in bundle.signatures:
        print(f"carries a signature of {signature.key}")
    if options.trusted_key:
        print(f"signed by the trusted key {check_trusted(bundle, options.trusted_key)}")
    else:
        print("signatures were not checked: name the keys that you trust (--trusted-key)", file=sys.stderr)
    return 0


def _parser_sign() -> ArgumentParser:
    parser = command_parser(
        "bundle sign",
        "Sign the hash that identifies a bundle, byte for byte, with an Ed25519 key. Its files are verified first;\n"
        "signatures of other keys stay.",
        [KEYS, "lnsdk bundle sign model --key key.pem"],
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder, or a zip that is not signed yet")
    parser.add_argument("--key", type=Path, required=True, metavar="PEM", help="private key")
    parser.add_argument("--password", action="store_true", help="ask for the password of the key")
    return parser


def _parser_verify() -> ArgumentParser:
    parser = command_parser(
        "bundle verify",
        "Check the description of a bundle and the SHA-256 of every file. With trusted keys, one of them must have\n"
        "signed it. Exit code 2 and one line say what is wrong.",
        ["lnsdk bundle verify model", "lnsdk bundle verify model.zip --trusted-key key.pub.pem"],
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or zip")
    parser.add_argument(
        "--trusted-key",
        type=Path,
        action="append",
        metavar="PEM",
        help="public key that is trusted; may be given several times",
    )
    return parser
