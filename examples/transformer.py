"""A transformer in the manner of Hugging Face, built from a configuration and trained by torchd.

Its forward takes `input_ids` and `labels` and returns the loss and the scores, so that a job names
no loss of its own. Nothing is downloaded: the task is made up. A sequence holds digits, and its
class is the digit that comes most often.

    python examples/transformer.py          with a daemon at the usual address, or in TORCHD_SERVER
"""

import dataclasses

import torch
import torchd
from torch import nn


@dataclasses.dataclass
class Config:
    """Sizes of the model."""

    vocab_size: int = 10
    hidden_size: int = 96
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    intermediate_size: int = 256
    max_position_embeddings: int = 32
    num_labels: int = 10
    dropout: float = 0.0


class Layer(nn.Module):
    """Attention and a perceptron, each behind a normalisation."""

    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.attention_output = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.perceptron = nn.Sequential(nn.Linear(config.hidden_size, config.intermediate_size), nn.GELU(),
                                        nn.Linear(config.intermediate_size, config.hidden_size), nn.Dropout(config.dropout))

    def forward(self, hidden):
        batch, length, width = hidden.shape
        parts = self.query_key_value(self.attention_norm(hidden)).chunk(3, dim=-1)
        query, key, value = (part.reshape(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.attention_output(attended.transpose(1, 2).reshape(batch, length, width))
        return hidden + self.perceptron(self.norm(hidden))


class SequenceClassifier(nn.Module):
    """Embeddings, layers, and a head over the mean of all positions."""

    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def scores(self, input_ids):
        """The scores of the classes."""
        positions = torch.arange(input_ids.shape[1])
        hidden = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.classifier(self.norm(hidden).mean(1))

    def forward(self, input_ids, labels):
        scores = self.scores(input_ids)
        return nn.functional.cross_entropy(scores, labels), {"accuracy": (scores.argmax(1) == labels).float().mean()}


def examples(count, length=16, seed=0):
    """Sequences of digits, and the digit that each holds most often."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    digits = torch.randint(10, (count, length), generator=generator)
    kept = torch.rand(count, length, generator=generator) < 0.5
    return torch.where(kept, digits, labels[:, None]), torch.nn.functional.one_hot(torch.where(kept, digits, labels[:, None]), 10).sum(1).argmax(1)


def main():
    torch.manual_seed(0)
    model = SequenceClassifier(Config())
    print(f"{sum(parameter.numel() for parameter in model.parameters())} parameters")
    held_out = examples(400, seed=1)
    with torchd.connect() as client:
        job = client.train(model, examples(4000), validation=held_out, epochs=2, optimizer={"adamw": {"learning_rate": 0.001}}, seed=1)
        job.wait().load_into(model)
    model.eval()
    with torch.no_grad():
        accuracy = (model.scores(held_out[0]).argmax(1) == held_out[1]).float().mean().item()
    told = job.message.progress.latest_scalars["accuracy/validation"]
    print(f"accuracy here {accuracy:.4f}, in the job {told:.4f}")
    return accuracy, told


if __name__ == "__main__":
    main()
