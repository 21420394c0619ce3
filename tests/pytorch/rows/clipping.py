"""The limits of gradients."""

from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from . import Row


def clipped(clip):
    """A step with the limit between the gradients and the optimizer."""
    def step(module, optimizer, x, y, loss):
        optimizer.zero_grad()
        value = loss(module(x), y)
        value.backward()
        clip(module.parameters())
        optimizer.step()
        return value.item()

    return step


ROWS = {
    "norm": Row(training="gradient_clip_norm = 0.3\n", step=clipped(lambda parameters: clip_grad_norm_(parameters, 0.3))),
    "value": Row(training="gradient_clip_value = 0.05\n", step=clipped(lambda parameters: clip_grad_value_(parameters, 0.05))),
}
