"""Errors as sentences on the page: what was wrong and what to do, never a stack trace."""

from __future__ import annotations

import html
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.files import found_no_room

DEFECT = "Something went wrong in the studio itself; the log has it."
NO_ROOM = "The disk of the workspace is full: free some space and try again."
SHOWN_SECONDS = 12

_log = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])


def sentence(error: InputError) -> str:
    """One sentence: what was got, and what to do."""
    remedy = " ".join(error.remedy.split()).rstrip(".")
    return f"Got {' '.join(error.got.split())}: {remedy}."


def as_sentence(function: Function) -> Function:
    """Decorate a listener: an `InputError` becomes one sentence on the page, any other error a line and a log entry."""
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generate(*arguments: Any, **options: Any) -> Iterator[Any]:
            with _spoken():
                yield from function(*arguments, **options)

        return generate  # type: ignore[return-value]

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with _spoken():
            return function(*arguments, **options)

    return call  # type: ignore[return-value]


@contextmanager
def _spoken() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except InputError as error:
        raise _shown(sentence(error)) from None
    except Exception as error:
        if found_no_room(error):
            raise _shown(NO_ROOM) from None
        _log.exception("a listener failed")
        raise _shown(DEFECT) from None


def _shown(text: str) -> gr.Error:
    return gr.Error(html.escape(text, quote=False), duration=SHOWN_SECONDS, title="", print_exception=False)
