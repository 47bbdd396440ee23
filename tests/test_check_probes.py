"""What the probes see, by one function each, and what none of them minds."""

import threading
import time

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import scipyconv
from scipyconv.check import Device, cases, check_convolution, find_case
from scipyconv.check.data import to_tensor
from scipyconv.check.probes import PROBES, find_probes

PLAIN = [find_case("conv2d", name) for name in ("one channel", "several of everything")]


def verdicts(function, probes, chosen=PLAIN, **options):
    report = check_convolution(function, probes=probes, cases=chosen, **options)
    return {row.probe: row for row in report.findings}


def test_dtypes_shapes_and_returned_values_are_part_of_the_contract():
    def message(function):
        return verdicts(function, ["forward"])["forward"].message

    assert "dtype torch.float64, and the operands have torch.float32" in message(
        lambda x, w: F.conv2d(x, w).double()
    )
    assert "has shape (1, 3, 3), and (1, 1, 3, 3) is right" in message(
        lambda x, w: F.conv2d(x, w).squeeze(0)
    )
    assert "returned ndarray, not torch.Tensor" in message(
        lambda x, w: F.conv2d(x, w).detach().numpy()
    )
    assert "returned NoneType" in message(lambda x, w: None)
    assert "returned tuple" in message(lambda x, w: (F.conv2d(x, w),))
    assert "lies on meta, not on cpu" in message(lambda x, w: F.conv2d(x, w).to("meta"))


def test_an_error_at_a_plain_case_is_a_finding_and_a_parameter_may_be_left_out():
    def no_groups(x, w, groups=1):
        if groups != 1:
            raise ValueError("groups are not for me")
        return F.conv2d(x, w)

    report = check_convolution(no_groups, probes=["forward"])
    assert report.ok
    assert [each.feature for each in report.unsupported] == ["groups"]
    assert report.unsupported[0].message == "ValueError: groups are not for me"
    required = check_convolution(no_groups, probes=["forward"], require=["groups"])
    assert not required.ok
    assert required.findings[0].error == "ValueError"
    assert not check_convolution(no_groups, probes=["forward"], require="all").ok

    def broken(x, w):
        raise RuntimeError("boom")

    report = check_convolution(broken, probes=["forward"])
    assert not report.ok
    assert report.findings[0].message == "RuntimeError: boom"


def test_an_error_at_a_pair_of_parameters_is_a_finding_unless_it_says_not_implemented():
    def function(error):
        def pair(x, w, stride=1, groups=1):
            if groups != 1 and stride != 1:
                raise error("not both")
            return F.conv2d(x, w, None, stride, 0, 1, groups)

        return pair

    assert not check_convolution(function(ValueError), probes=["forward"]).ok
    report = check_convolution(function(NotImplementedError), probes=["forward"])
    assert report.ok
    assert "groups with stride" in {each.feature for each in report.unsupported}


@pytest.mark.parametrize(
    "error", [SystemExit, MemoryError, RecursionError, GeneratorExit]
)
def test_no_error_but_an_interrupt_ends_the_run(error):
    def function(x, w):
        raise error("no")

    assert verdicts(function, ["forward"])["forward"].error == error.__name__


def test_an_interrupt_keeps_what_was_found():
    def function(x, w):
        if x.shape[0] > 1:
            raise KeyboardInterrupt
        return F.conv2d(x, w).neg()

    report = check_convolution(function, probes=["forward"])
    assert report.interrupted
    assert report.findings
    assert "stopped before the end" in str(report)


def test_work_that_comes_late_is_told_from_wrong_work():
    def late(x, w):
        y = torch.zeros_like(F.conv2d(x, w))
        right = F.conv2d(x, w)

        def work():
            time.sleep(0.02)
            y.copy_(right)

        threading.Thread(target=work).start()
        return y

    row = verdicts(late, ["forward"])["forward"]
    assert row.verdict == "contract"
    assert "work was still under way" in row.message


class Lazy(Device):
    """A device whose work is done when it is waited for, as on an accelerator."""

    def __init__(self):
        super().__init__("cpu")
        self.queue = []

    def synchronize(self):
        while self.queue:
            self.queue.pop(0)()


def test_a_device_that_is_not_waited_for_shows_and_one_that_is_waited_for_passes():
    device = Lazy()

    def hasty(x, w):
        y = torch.zeros_like(F.conv2d(x, w))
        device.queue.append(lambda: y.copy_(F.conv2d(x, w)))
        return y

    def patient(x, w):
        y = hasty(x, w)
        device.synchronize()
        return y

    row = verdicts(hasty, ["forward"], device=device)["forward"]
    assert "work was still under way" in row.message
    assert not verdicts(patient, ["forward"], device=device)


def test_data_is_made_on_the_cpu_and_sent():
    sent, read = [], []

    class Spy(Device):
        def send(self, tensor):
            sent.append(tensor)
            return super().send(tensor)

        def read(self, tensor):
            read.append(tensor)
            return super().read(tensor)

    assert check_convolution(F.conv2d, cases=PLAIN, device=Spy()).ok
    assert len(sent) > 50
    assert len(read) > 50


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
def test_torchs_convolution_on_an_accelerator_is_right():
    with torch.backends.cudnn.flags(allow_tf32=False):
        report = check_convolution(
            F.conv2d,
            device=torch.accelerator.current_accelerator(),
            dtypes=["float32", "float64"],
        )
    assert report.ok, str(report)


def test_tf32_like_rounding_is_seen_in_the_rounding_alone():
    def rounded(tensor):
        bits = tensor.detach().view(torch.int32)
        return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)

    found = verdicts(
        lambda x, w: F.conv2d(rounded(x), rounded(w)),
        ["forward", "rounding"],
        gradients=False,
    )
    assert list(found) == ["rounding of the output"]
    message = found["rounding of the output"].message
    assert "of the 24 bits of its input it keeps 11, as TF32 or float16 does" in message


def test_a_narrow_accumulator_is_the_functions_right_until_a_wide_one_is_asked_for():
    def narrow(x, w, bias=None):
        y = sum_in_bfloat16(x, w)
        return y if bias is None else y + bias.reshape(-1, 1, 1)

    case = [find_case("conv2d", "several of everything")]
    options = {"dtypes": ["bfloat16"], "gradients": False}
    assert not verdicts(narrow, ["rounding"], case, **options)
    found = verdicts(narrow, ["rounding"], case, accumulate="float32", **options)
    assert "sums in float32" in found["rounding of the output"].message


def sum_in_bfloat16(x, w):
    """A convolution whose every sum is rounded to bfloat16."""
    windows = F.unfold(x.float(), tuple(w.shape[2:])).bfloat16()
    total = torch.zeros(len(x), len(w), windows.shape[-1], dtype=torch.bfloat16)
    for k, taps in enumerate(w.reshape(len(w), -1).unbind(1)):
        total = total + taps[None, :, None] * windows[:, None, k]
    rows = x.shape[2] - w.shape[2] + 1
    return total.reshape(len(x), len(w), rows, -1)


def test_integers_wrap_in_a_narrow_accumulator():
    """Quantized kernels return wider integers; sums in eight bits show there alone."""

    def wide(x, w):
        return F.conv2d(x.long(), w.long()).int()

    def narrow(x, w):
        return F.conv2d(x.long(), w.long()).to(torch.int8).int()

    for function, wrong in ((wide, []), (narrow, ["whole range of integers"])):
        assert list(verdicts(function, ["logic"], dtypes=["int8"])) == wrong


def nhwc(function, input, weight, bias=None, **parameters):
    """An adapter for a function of images whose channels come last."""
    y = function(input.movedim(1, -1), weight.movedim(1, -1), bias, **parameters)
    return y.movedim(-1, 1)


def test_an_adapter_translates_layouts():
    def last(x, w, bias=None, stride=1):
        return F.conv2d(x.movedim(-1, 1), w.movedim(-1, 1), bias, stride).movedim(1, -1)

    case = [find_case("conv2d", "stride two")]
    assert not check_convolution(last, cases=case).ok
    assert check_convolution(last, cases=case, adapter=nhwc).ok


def test_an_adapter_lets_a_numpy_function_be_checked_without_gradients():
    def loops(x, w):
        y = np.zeros(
            (len(x), len(w), x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1),
            x.dtype,
        )
        for n, o, i, j in np.ndindex(y.shape):
            window = x[n, :, i : i + w.shape[2], j : j + w.shape[3]]
            y[n, o, i, j] = (window * w[o]).sum()
        return y

    def adapter(function, input, weight):
        if input.shape[1] != weight.shape[1]:
            raise ValueError("channels")
        return torch.from_numpy(
            function(input.detach().numpy(), weight.detach().numpy())
        )

    report = check_convolution(
        loops,
        cases=PLAIN,
        adapter=adapter,
        gradients=False,
        dtypes=["float32", "float64"],
    )
    assert report.ok, str(report)
    with_gradients = check_convolution(loops, cases=PLAIN, adapter=adapter)
    assert "gradients are silently lost" in str(with_gradients).replace("\n      ", " ")


def test_comparisons_cannot_be_blinded(monkeypatch):
    def blinding(x, w):
        for module, name in (
            (torch, "equal"),
            (torch, "allclose"),
            (np, "array_equal"),
            (np, "allclose"),
            (np, "all"),
            (np, "abs"),
        ):
            monkeypatch.setattr(module, name, lambda *_, **__: True)
        return F.conv2d(x, w).neg()

    found = verdicts(blinding, ["forward", "global state"])
    monkeypatch.undo()
    assert "forward" in found
    assert "torch.equal" in found["global state"].message
    assert "numpy.array_equal" in found["global state"].message


def test_the_process_is_as_before_also_after_a_function_that_changes_it():
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()

    def changes(x, w):
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(7)
        return F.conv2d(x, w)

    message = verdicts(changes, ["global state", "forward"])["global state"].message
    assert "torch's default dtype, torch's random state" in message
    assert before[:2] == (torch.get_num_threads(), torch.get_default_dtype())
    assert torch.equal(before[2], torch.get_rng_state())


def test_second_order_findings_are_held_back_while_the_first_is_wrong():
    report = check_convolution(lambda x, w: F.conv2d(x, w).neg(), cases=PLAIN)
    assert "second order" not in {row.probe for row in report.findings}
    assert "second order" in {row.probe for row in report.held_back}


def test_probes_are_chosen_by_name_or_group_and_others_refused():
    assert [probe.name for probe in find_probes("vmap")] == ["vmap"]
    assert len(find_probes(["modes"])) == 3
    with pytest.raises(ValueError, match=r"probes must be among .*: one is 'speed'"):
        check_convolution(F.conv2d, probes=["speed"])
    with pytest.raises(ValueError, match="accumulate must be among"):
        check_convolution(F.conv2d, accumulate="float8")


def test_names_of_probes_are_unique_and_their_needs_exist():
    names = [probe.name for probe in PROBES]
    assert len(names) == len(set(names))
    for probe in PROBES:
        assert {*probe.needs, *probe.needs_everywhere} <= set(names)


@pytest.mark.parametrize("method", ["direct", "matmul", "fft"])
@pytest.mark.parametrize("family", ["conv2d", "conv_transpose1d"])
def test_our_own_functions_are_right_with_every_engine(family, method):
    function = getattr(scipyconv.functional, family)

    def ours(*operands, **parameters):
        return function(*operands, **parameters, method=method)

    report = check_convolution(
        ours,
        family,
        cases=cases(family)[::6],
        dtypes=["float32", "bfloat16", "complex64"],
    )
    assert report.ok, str(report)


@pytest.mark.filterwarnings("ignore:TF32")  # from within torch's own flags
@pytest.mark.parametrize("family", ["conv2d", "conv_transpose2d"])
def test_torchs_functions_are_right_in_every_dtype(family):
    """Without oneDNN, whose bfloat16 with a stride is wrong on some processors."""
    with torch.backends.mkldnn.flags(enabled=False):
        report = check_convolution(getattr(F, family), family)
    assert report.ok, str(report)


def test_operands_are_tensors_of_torch():
    """What the function gets: plain tensors, none of a class of the checker's."""
    seen = set()

    def function(x, w):
        seen.update({type(x), type(w)})
        return F.conv2d(x, w)

    check_convolution(function, probes=["logic"], cases=PLAIN)
    assert seen == {Tensor}
    assert type(to_tensor(np.zeros(2), torch.float32)) is Tensor


def test_a_bias_of_a_single_number_that_is_broadcast_is_noted_and_no_failure():
    def conv2d(input, weight, bias=None):
        y = F.conv2d(input, weight)
        return y if bias is None else y + bias[:, None, None]

    report = check_convolution(conv2d, probes=["invalid arguments"])
    assert report.ok, str(report)
    assert {note.message for note in report.notes} == {
        "a bias of a single number is added to every channel; torch raises an error"
    }
