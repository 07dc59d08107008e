"""What runs inside the sandbox: it sets limits, then runs the program that comes on its standard input.

It is given to the interpreter as text, and imports nothing of this package. It reports on standard error: "ready", then
one line on how the program ended. Both of the program's streams go to standard output.
"""

import os
import resource
import sys
import types


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
        except ValueError:  # macOS has no limit on address space; a limit below ours is no harm
            continue


def read(descriptor: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        chunk = os.read(descriptor, size - len(found))
        if not chunk:
            raise EOFError
        found += chunk
    return found


def run(source: bytes) -> str:
    """How the program ended: nothing where it ran to its end."""
    program = types.ModuleType("program")  # another name than __main__: what a model shows beside its code stays unrun
    sys.modules["program"] = program
    try:
        code = compile(source.decode("utf-8", "surrogatepass"), "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return "does not parse"
    try:
        exec(code, program.__dict__)
    except SystemExit:
        return "exits before its end"
    except MemoryError:
        return "memory"
    except BaseException as error:
        sys.__excepthook__(type(error), error, error.__traceback__)
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
        return f"raised {kind.__name__}"
    return ""


def main() -> None:
    write, leave, flush = os.write, os._exit, sys.stdout.flush
    limit(*map(int, sys.argv[1:5]))
    incoming, report = os.dup(0), os.dup(2)
    os.dup2(1, 2)
    empty, end = os.pipe()
    os.dup2(empty, 0)
    os.close(empty)
    os.close(end)
    os.environ.clear()
    sys.argv[:] = ["program.py"]
    write(report, b"ready\n")
    reason = run(read(incoming, int(read(incoming, 16))))
    # The secret lies in the pipe until now, so that a program that ends itself can't say that it ran to its end.
    write(report, b"%s\n" % (reason.encode() or b"end " + read(incoming, 32)))
    try:
        flush()
    finally:
        leave(0)


if __name__ == "__main__":
    main()
