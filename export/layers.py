"""Where the convolutions and matrix products of an ONNX graph are: rounding is for what lies between them."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import GraphProto, NodeProto

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that do the work."""


def name_nodes(graph: GraphProto) -> None:
    """Give a name to every node that has none, so that tools can be told about it."""
    for number, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{number}"


def before_first(graph: GraphProto) -> list[NodeProto]:
    """Nodes that no convolution or matrix product comes before: windows, coordinates."""
    reached: set[str] = set()
    free = []
    for node in graph.node:  # in the order of computation, as ONNX demands
        if node.op_type in HEAVY or not reached.isdisjoint(node.input):
            reached.update(node.output)
        else:
            free.append(node)
    return free


def after_last(graph: GraphProto) -> list[NodeProto]:
    """Nodes that no convolution or matrix product comes after: exp, sigmoid, box arithmetic."""
    blocked: set[str] = set()
    found = []
    for node in reversed(graph.node):
        if node.op_type in HEAVY or not blocked.isdisjoint(node.output):
            blocked.update(node.input)
        else:
            found.append(node)
    return found[::-1]


def last_heavy(graph: GraphProto, outputs: Iterable[str]) -> list[NodeProto]:
    """The last convolution or matrix product on every way to some outputs."""
    wanted = set(outputs)
    found = []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            if node.op_type in HEAVY:
                found.append(node)
            else:
                wanted.update(node.input)
    return found[::-1]


def first_heavy(graph: GraphProto) -> list[NodeProto]:
    """The convolutions and matrix products that no other comes before."""
    after: set[str] = set()
    found = []
    for node in graph.node:
        follows = not after.isdisjoint(node.input)
        if node.op_type in HEAVY and not follows:
            found.append(node)
        if node.op_type in HEAVY or follows:
            after.update(node.output)
    return found
