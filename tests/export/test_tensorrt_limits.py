"""Each of TensorRT's documented limits on a tiny model; no engine is built."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lnsdk import InputError
from lnsdk.bundle import DEFAULT_BUNDLE
from lnsdk.export.tensorrt_limits import check_limits, refusals
from tests.toy_bundle import write_toy_bundle

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def model(
    *nodes: NodeProto,
    shape: tuple[int | str, ...] = ("batch", 2, 8, 8),
    constants: dict[str, NDArray[Any]] | None = None,
    opset: int = 18,
    more: dict[str, tuple[int | str, ...]] | None = None,
) -> onnx.ModelProto:
    inputs = {"x": shape} | (more or {})
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, FLOAT, sizes) for name, sizes in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def reasons(tiny: onnx.ModelProto) -> list[str]:
    return [each.reason for each in refusals(tiny)]


@pytest.mark.parametrize(("opset", "accepted"), [(8, False), (9, True), (20, True), (21, False)])
def test_operator_sets(opset: int, accepted: bool) -> None:
    found = reasons(model(helper.make_node("Relu", ["x"], ["y"]), opset=opset))
    assert found == ([] if accepted else [f"operator set {opset}; read are 9-20"])


@pytest.mark.parametrize(
    ("shape", "grid", "accepted"),
    [(("batch", 2, 8, 8), ("batch", 3, 3, 2), True), (("batch", 2, 8, 8, 8), ("batch", 3, 3, 3, 3), False)],
)
def test_grid_samples_are_4d(shape: tuple[int | str, ...], grid: tuple[int | str, ...], accepted: bool) -> None:
    node = helper.make_node("GridSample", ["x", "grid"], ["y"])
    found = reasons(model(node, shape=shape, opset=20, more={"grid": grid}))
    assert found == ([] if accepted else ["the input must have 4 dimensions, got 5"])


@pytest.mark.parametrize(("k", "accepted"), [(1, True), (3839, True), (3840, False), (100_000, False)])
def test_top_k_is_limited(k: int, accepted: bool) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "indices"])
    found = reasons(model(node, shape=("batch", 200_000), constants={"k": np.array([k])}))
    assert found == ([] if accepted else [f"K must be below 3840, got {k}"])


def test_top_k_of_a_constant_node_is_limited() -> None:
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.array([5000])))
    found = reasons(model(constant, helper.make_node("TopK", ["x", "k"], ["y", "i"]), shape=("batch", 9000)))
    assert found == ["K must be below 3840, got 5000"]


def test_top_k_must_not_depend_on_the_input() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "zero", "one"], ["k"]),
        helper.make_node("TopK", ["x", "k"], ["y", "i"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1])}
    assert reasons(model(*nodes, constants=constants)) == ["K must be a constant below 3840"]


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"mode": "nearest"}, []),
        ({"mode": "linear"}, []),
        ({"mode": "cubic"}, ["mode must be nearest or linear, got cubic"]),
        ({"mode": "linear", "antialias": 1}, ["antialias must be 0"]),
        (
            {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
            ["coordinates of tf_crop_and_resize are not supported"],
        ),
    ],
)
def test_resizing(attributes: dict[str, Any], found: list[str]) -> None:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **attributes)
    assert reasons(model(node, constants={"scales": np.array([1, 1, 2, 2], np.float32)})) == found


@pytest.mark.parametrize("operator", ["NonMaxSuppression", "NonZero", "If", "Unique", "MaxRoiPool", "Det"])
def test_operators_that_are_not_used(operator: str) -> None:
    tiny = model(helper.make_node("Relu", ["x"], ["y"]))
    tiny.graph.node[0].op_type = operator
    assert reasons(tiny) == ["no operator that TensorRT supports, or one that lnsdk keeps out of its graphs"]


@pytest.mark.parametrize("operator", ["HardSwish", "HardSigmoid", "Softplus", "Sigmoid", "Relu", "Exp"])
def test_operators_that_are_supported(operator: str) -> None:
    assert reasons(model(helper.make_node(operator, ["x"], ["y"]))) == []


def test_operators_of_others_are_refused() -> None:
    tiny = model(helper.make_node("Relu", ["x"], ["y"], domain="com.example"))
    tiny.opset_import.append(helper.make_opsetid("com.example", 1))
    assert len(reasons(tiny)) == 1


def test_roi_align_and_group_normalization_are_supported() -> None:
    roi_align = helper.make_node("RoiAlign", ["x", "rois", "batches"], ["y"])
    constants: dict[str, NDArray[Any]] = {"rois": np.zeros((1, 4), np.float32), "batches": np.zeros(1, np.int64)}
    assert reasons(model(roi_align, constants=constants)) == []
    normalization = helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=1)
    ones = np.ones(1, np.float32)
    assert reasons(model(normalization, constants={"scale": ones, "bias": ones})) == []


@pytest.mark.parametrize(("dimensions", "accepted"), [(1, True), (2, True), (3, True), (4, False)])
def test_convolutions_are_1d_to_3d(dimensions: int, accepted: bool) -> None:
    weights = np.ones((2, 2, *[3] * dimensions), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    found = reasons(model(node, shape=("batch", 2, *[8] * dimensions), constants={"w": weights}))
    assert found == ([] if accepted else ["must be 1D, 2D or 3D: the input must have 3 to 5 dimensions, got 6"])


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("dimensions", "accepted"), [(1, False), (2, True), (3, True)])
def test_pooling_is_2d_or_3d(operator: str, dimensions: int, accepted: bool) -> None:
    node = helper.make_node(operator, ["x"], ["y"], kernel_shape=[2] * dimensions)
    found = reasons(model(node, shape=("batch", 2, *[8] * dimensions)))
    assert found == ([] if accepted else [f"must be 2D or 3D, got a window of {dimensions} dimensions"])


def test_pooling_gives_no_indices() -> None:
    assert reasons(model(helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2]))) == ["gives no indices"]


def test_training_is_over() -> None:
    ones = np.ones(2, np.float32)
    node = helper.make_node("BatchNormalization", ["x", *"abcd"], ["y", "m", "v"], training_mode=1)
    assert reasons(model(node, constants=dict.fromkeys("abcd", ones))) == ["training_mode must be 0"]


def test_doubles_are_refused() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=DOUBLE),
        helper.make_node("Cast", ["wide"], ["y"], to=FLOAT),
    ]
    assert reasons(model(*nodes)) == ["output 'wide' of type DOUBLE"]
    weights = model(helper.make_node("Relu", ["x"], ["y"]), constants={"w": np.zeros(2)})
    assert reasons(weights) == ["weights of type DOUBLE"]


def test_an_error_names_every_node() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"], name="find"),
        helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="cubic"),
    ]
    tiny = model(*nodes, constants={"scales": np.array([1, 1, 2, 2], np.float32)})
    with pytest.raises(InputError, match=r"graph 'tiny' .* \(NonZero find: .*; Resize y: mode must be") as caught:
        check_limits("tiny", tiny)
    assert caught.value.reason == "tensorrt-limits"


@pytest.mark.parametrize("path", sorted(DEFAULT_BUNDLE.glob("models/*.onnx")), ids=lambda path: path.stem)
def test_the_embedded_model_is_within_the_limits(path: Path) -> None:
    check_limits(path.stem, onnx.load(path))


def test_the_toy_is_within_the_limits(tmp_path: Path) -> None:
    for path in write_toy_bundle(tmp_path).glob("models/*.onnx"):
        check_limits(path.stem, onnx.load(path))
