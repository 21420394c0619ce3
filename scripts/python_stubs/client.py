"""The stub of `torchd.client`: the classes of `torchd.aio` without `await`, as `torchd.blocking`
makes them."""

import ast
import re

HEAD = "# Made by scripts/python-package of torchd/aio and torchd/client.py.\n"
CORES = ("aio/job.py", "aio/client.py")


def stub(package):
    """The stub for a package at a path."""
    own = ast.parse((package / "client.py").read_text())
    classes = {node.name: node for name in CORES for node in ast.parse((package / name).read_text()).body if isinstance(node, ast.ClassDef)}
    lines = [HEAD, "import contextlib", "from collections.abc import Generator, Iterator, Mapping", "from pathlib import Path", "from typing import Any", "",
             "from . import aio, messages", "from .aio.job import Result", "from .connection import PATIENCE", "from .scalars import Scalars", ""]
    for node in own.body:
        if isinstance(node, ast.ClassDef):
            lines.append(ast.unparse(a_class(node, classes[node.name])))
        elif isinstance(node, ast.FunctionDef):
            lines.append(ast.unparse(a_function(node)))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            lines.append("")
    return "\n".join(lines)


def a_class(node, core):
    """A class with the members of the one for asyncio, and its own."""
    own = [a_function(member) for member in node.body if isinstance(member, ast.FunctionDef)]
    names = {member.name for member in own}
    members = [member for member in core.body if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)) and not member.name.startswith("_")]
    made = [a_function(member) for member in members if member.name not in names]
    return ast.ClassDef(name=node.name, bases=[], keywords=[], decorator_list=[], body=[*documentation(node), *own, *made], type_params=[])


def a_function(node):
    """A function without its body, which does not wait."""
    returns = node.returns
    if returns is not None:
        blocks = re.sub(r"AsyncGenerator\[(.*), None\]", r"Generator[\1, None, None]", ast.unparse(returns))
        returns = ast.parse(blocks, mode="eval").body
    body = documentation(node) or [ast.Expr(ast.Constant(...))]
    return ast.FunctionDef(name=node.name, args=node.args, body=body, decorator_list=node.decorator_list, returns=returns, lineno=0, type_params=[])


def documentation(node):
    """The docstring of a node, as a body."""
    first = node.body[0]
    return [first] if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str) else []
