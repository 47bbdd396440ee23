"""Check anybody's convolution, and anybody's backward, and see what is wrong."""

from scipyconv.check.cases import Case, cases, find_case
from scipyconv.check.device import Device
from scipyconv.check.gradients import GradientReport, check_gradients
from scipyconv.check.layer import check_layer
from scipyconv.check.marking import mark
from scipyconv.check.report import Report
from scipyconv.check.run import check_convolution

__all__ = [
    "Case",
    "Device",
    "GradientReport",
    "Report",
    "cases",
    "check_convolution",
    "check_gradients",
    "check_layer",
    "find_case",
    "mark",
]
