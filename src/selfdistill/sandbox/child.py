"""The script that runs inside the sandbox. It sets limits, then runs the program from its standard input.

This file is passed to the interpreter as text, and imports nothing of this package. It writes two lines to standard
error: "ready", and how the program ended. Both output streams of the program go to standard output.

Two of these processes can be connected by a pair of pipes. One runs the untrusted program and serves calls of its
functions (`serve`). The other runs the tests, which call these functions through `Remote`. Arguments and results are
sent as plain data, which `Decoder` rebuilds from builtin types only: a program can send any value, but no behaviour.
"""

from __future__ import annotations

import builtins
import os
import resource
import sys
import types

TYPE_CHECKING = False  # not imported from typing, because that import takes longer than most programs
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

LONGEST = 1 << 26  # bytes of one message
MUTABLE = (list, dict, set, bytearray)
# An instance of a subclass is sent as the first of these types that it is an instance of.
PLAIN = (list, tuple, set, frozenset, dict, str, bytes, bytearray, int, float, complex)
SEQUENCES = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}
VIEWS = {type({}.keys()): b"K", type({}.values()): b"V", type({}.items()): b"P"}
CONSTANTS = {b"n": None, b"y": True, b"x": False}
SCALARS: dict[Any, tuple[bytes, Callable[[Any], bytes]]] = {
    str: (b"s", lambda value: str.encode(value, "utf-8", "surrogatepass")),
    bytes: (b"b", lambda value: bytes(memoryview(value))),
    bytearray: (b"a", lambda value: bytes(memoryview(value))),
    int: (b"i", lambda value: int.__format__(value, "x").encode()),  # int() reads hexadecimal digits without limit
    float: (b"f", lambda value: float.hex(value).encode()),
}
PARSERS: dict[bytes, Callable[[bytes], Any]] = {
    b"s": lambda content: content.decode("utf-8", "surrogatepass"),
    b"b": bytes,
    b"a": bytearray,
    b"i": lambda content: int(content, 16),
    b"f": lambda content: float.fromhex(content.decode()),
}
BUILDERS: dict[bytes, Callable[[list[Any]], Any]] = {
    **{tag: kind for kind, tag in SEQUENCES.items()},
    b"d": dict,
    b"c": lambda items: complex(*items),
    b"r": lambda items: range(*items),
    b"I": iter,
    b"K": lambda items: dict.fromkeys(items).keys(),
    b"V": lambda items: dict(enumerate(items)).values(),
    b"P": lambda items: dict(items).items(),
}
NOT_PLAIN = "returns an object that is not plain data"
NO_ANSWER, UNREADABLE = "stops answering", "sends an answer that cannot be read"


class ProgramError(BaseException):
    """The program has failed, even if the tests catch this error. Not an Exception, so that few tests catch it."""


def encode(value: Any, iterators: list[Any] | None = None) -> bytes:
    """A value of builtin types as bytes. Subclasses lose their own behaviour: an IntEnum becomes an int, a named tuple
    a tuple, a Counter a dict. An iterator is appended to `iterators` and becomes its index; if `iterators` is None, the
    iterator is read to its end. Raises TypeError for anything else.
    """
    if value is None or value is True or value is False:
        return {None: b"n", True: b"y", False: b"x"}[value]
    kind: Any = next((kind for kind in PLAIN if isinstance(value, kind)), type(value))
    if kind in SEQUENCES:
        return SEQUENCES[kind] + encode_all(kind.__iter__(value), iterators)
    if kind is dict:
        return b"d" + encode_all(dict.items(value), iterators)
    if kind is complex:
        return b"c" + encode_all((complex.real.__get__(value), complex.imag.__get__(value)))
    if kind in SCALARS:
        tag, content = SCALARS[kind]
        return tag + framed(content(value))
    if kind is range:
        return b"r" + encode_all((value.start, value.stop, value.step))
    if kind in VIEWS:
        return VIEWS[kind] + encode_all(value, iterators)
    if hasattr(kind, "__next__") and iterators is not None:
        iterators.append(value)
        return b"g" + encode(len(iterators) - 1)
    if hasattr(kind, "__next__"):
        return b"I" + encode_all(value)
    raise TypeError(kind.__name__)


def encode_all(values: Any, iterators: list[Any] | None = None) -> bytes:
    items = [encode(value, iterators) for value in values]
    return b"%x;" % len(items) + b"".join(items)


def framed(content: bytes) -> bytes:
    return b"%x;" % len(content) + content


class Decoder:
    """Reads one value. `remote` returns an iterator for the index of an iterator in the other process. Raises
    ValueError, TypeError or RecursionError for bytes that `encode` did not write."""

    def __init__(self, data: bytes, remote: Callable[[Any], Any] | None = None) -> None:
        self.data, self.place, self.remote = data, 0, remote

    def value(self) -> Any:
        tag = self.data[self.place : self.place + 1]
        self.place += 1
        if tag in CONSTANTS:
            return CONSTANTS[tag]
        if tag in PARSERS:
            return PARSERS[tag](self.content())
        if tag == b"g" and self.remote:
            return self.remote(self.value())
        if tag not in BUILDERS:
            raise ValueError(tag)
        return BUILDERS[tag]([self.value() for _ in range(self.number())])

    def number(self) -> int:
        end = self.data.index(b";", self.place, self.place + 20)
        found = int(self.data[self.place : end], 16)
        self.place = end + 1
        return found

    def content(self) -> bytes:
        size = self.number()
        found = self.data[self.place : self.place + size]
        if size < 0 or len(found) < size:
            raise ValueError(size)
        self.place += size
        return found


def limit(cpu: int, memory: int, disk: int, threads: int) -> None:
    limits = {
        "RLIMIT_CPU": (cpu, cpu + 1),  # SIGXCPU at the first, SIGKILL at the second
        "RLIMIT_AS": (memory, memory),
        "RLIMIT_FSIZE": (disk, disk),
        "RLIMIT_NPROC": (threads, threads),
        "RLIMIT_NOFILE": (64, 64),
        "RLIMIT_CORE": (0, 0),
    }
    for name, values in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), values)
        except ValueError:  # macOS has no limit on address space; a lower limit does no harm
            continue


def read(descriptor: int, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        chunk = os.read(descriptor, min(size - len(found), 1 << 20))
        if not chunk:
            raise EOFError
        found += chunk
    return bytes(found)


def receive(descriptor: int) -> bytes:
    size = int(read(descriptor, 16))
    if not 0 <= size <= LONGEST:
        raise ValueError
    return read(descriptor, size)


def send(descriptor: int, message: bytes) -> None:
    left = memoryview(b"%016d" % len(message) + message)
    while left:
        left = left[os.write(descriptor, left) :]


def kind_of(error: BaseException) -> str:
    return next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins").__name__


class Remote:
    """The program's process, as the tests see it. `function` returns a function that calls one of the program's."""

    def __init__(self, requests: int, replies: int) -> None:
        self.requests, self.replies = requests, replies
        self.failed = ""  # the reason; kept here, because the tests may catch the exception
        self.receive()  # the program's module has been run

    def fail(self, reason: str) -> NoReturn:
        self.failed = reason
        raise ProgramError(reason)

    def receive(self) -> bytes:
        try:
            return receive(self.replies)
        except (EOFError, OSError):
            self.fail(NO_ANSWER)
        except ValueError:
            self.fail(UNREADABLE)

    def ask(self, *request: Any) -> tuple[Any, Any]:
        """The value of a call, and its arguments as the program left them. Raises what the program raised."""
        message = encode(request)
        try:
            send(self.requests, message)
        except OSError:
            self.fail(NO_ANSWER)
        reply = self.receive()
        try:
            outcome, value, other = Decoder(reply, self.iterate).value()
        except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError):
            self.fail(UNREADABLE)
        if outcome == "value":
            return value, other
        if outcome == "not plain":
            self.fail(NOT_PLAIN)
        kind = getattr(builtins, str(value), None)
        # StopIteration would end a loop of the tests as if nothing were left to test.
        known = isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, StopIteration)
        raised: Any = kind if known else RuntimeError
        raise raised.__new__(raised, str(other))

    def function(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            value, changed = self.ask("call", name, arguments, named)
            for old, new in zip((*arguments, *named.values()), changed, strict=False):
                if type(old) in MUTABLE and type(old) is type(new) and old != new:
                    restore(old, new)
            return value

        return call

    def iterate(self, number: Any) -> Iterator[Any]:
        while found := self.ask("next", number)[0]:
            yield found[0]


def restore(old: Any, new: Any) -> None:
    """Copies the changes that the program made to an argument back into the argument of the tests."""
    old.clear()
    if isinstance(old, (list, bytearray)):
        old.extend(new)
    else:
        old.update(new)


def serve(program: types.ModuleType, requests: int, replies: int) -> None:
    """Answers calls of the program's functions until the tests have ended."""
    iterators: list[Any] = []
    send(replies, b"")
    while True:
        try:
            request = Decoder(receive(requests)).value()
        except EOFError:
            return
        try:
            reply = answer(program.__dict__, request, iterators)
        except MemoryError:
            raise
        except Exception as error:
            reply = encode(("raised", kind_of(error), str(error)[:1000]))
        send(replies, reply)


def answer(names: dict[str, Any], request: tuple[Any, ...], iterators: list[Any]) -> bytes:
    changed: list[Any] = []
    if request[0] == "next":
        end = object()
        item = next(iterators[request[1]], end)
        value: Any = () if item is end else (item,)
    else:
        _, name, arguments, named = request
        if name not in names:
            raise NameError(f"name {name!r} is not defined")
        value = names[name](*arguments, **named)
        changed = [given if type(given) in MUTABLE else None for given in (*arguments, *named.values())]
    try:
        return encode(("value", value, changed), iterators)
    except TypeError as error:
        return encode(("not plain", str(error), ""))


def run(source: bytes, task: str = "", requests: int = -1, replies: int = -1) -> str:
    """The reason why the program failed; empty if it ran to its end."""
    program = types.ModuleType("program")  # not __main__, so that code under `if __name__` does not run
    sys.modules["program"] = program
    try:
        code = compile(source.decode("utf-8", "surrogatepass"), "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return "does not parse"
    remote = None
    try:
        if task == "test":
            remote = Remote(requests, replies)
            program.__dict__["function_of_the_program"] = remote.function
        exec(code, program.__dict__)
        if task == "serve":
            serve(program, requests, replies)
    except SystemExit:
        return "exits before its end"
    except MemoryError:
        return "memory"
    except ProgramError as error:
        return str(error)
    except BaseException as error:
        sys.__excepthook__(type(error), error, error.__traceback__)
        return f"raised {kind_of(error)}"
    return remote.failed if remote else ""


def main() -> None:
    write, leave, flush = os.write, os._exit, sys.stdout.flush
    limit(*map(int, sys.argv[1:5]))
    task, pipes = (sys.argv[5], [*map(int, sys.argv[6:8])]) if sys.argv[5:] else ("", [-1, -1])
    incoming, report = os.dup(0), os.dup(2)
    os.dup2(1, 2)
    empty, end = os.pipe()
    os.dup2(empty, 0)
    os.close(empty)
    os.close(end)
    os.environ.clear()
    sys.argv[:] = ["program.py"]
    write(report, b"ready\n")
    reason = run(read(incoming, int(read(incoming, 16))), task, *pipes)
    # The secret is read only now, so that a program that exits early can't report that it ran to its end.
    write(report, b"%s\n" % (reason.encode() or b"end " + read(incoming, 32)))
    try:
        flush()
    finally:
        leave(0)


if __name__ == "__main__":
    main()
