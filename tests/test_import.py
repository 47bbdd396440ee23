"""What `import scipyconv` costs, for those who have imported what it stands on."""

import subprocess
import sys

SCRIPT = """
import sys, time
import torch, scipy.fft, scipy.signal
start = time.process_time()
import scipyconv
print(time.process_time() - start, "threadpoolctl" in sys.modules)
"""


def test_import_takes_little_beyond_torchs():
    """Some fifty milliseconds, twice that on a busy machine; BLAS is looked for when it is used."""
    for _ in range(3):
        seconds, found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True,
                                        text=True, check=True).stdout.split()
        assert found == "False"
        if float(seconds) < 0.1:
            return
    raise AssertionError(f"the last import took {seconds} s")
