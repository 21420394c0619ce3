"""The peer of benches/event_writer.rs: PyTorch's SummaryWriter. For each line that it reads, a
number of scalars, it writes an event file and says the seconds of processor that took.
"""

import sys
import tempfile
import time

from torch.utils.tensorboard import SummaryWriter

for line in sys.stdin:
    with tempfile.TemporaryDirectory() as folder:
        # TensorBoard writes on a thread of its own: its time counts.
        begun = time.process_time()
        writer = SummaryWriter(folder)
        for step in range(int(line)):
            writer.add_scalar("loss/train", 0.5, step)
        writer.close()
        print(time.process_time() - begun, flush=True)
