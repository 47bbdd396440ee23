"""Something happens in the middle of a call: at each step, one after the other."""

import sys


def at_each_step(module, call, happen, step="line"):
    """Call again and again; while it runs `module`'s k-th line, `happen()`; for each k.

    With `step="opcode"` it happens at each instruction. Yields after each call what it
    returned or raised, and ends when a call has fewer than k steps.
    """
    for k in range(10**6):
        steps = iter(range(k, -1, -1))
        yield _call_once(module.__file__, call, happen, step, steps)
        if next(steps, None) is not None:
            return


def _call_once(file, call, happen, step, steps):
    def trace(frame, event, _):
        if frame.f_code.co_filename != file:
            return None
        frame.f_trace_opcodes = step == "opcode"
        if event == step and next(steps, None) == 0:
            happen()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = step == "opcode"  # Python 3.12 wants it first
    sys.settrace(trace)
    try:
        return call()
    except BaseException as error:
        return error
    finally:
        sys.settrace(before)
