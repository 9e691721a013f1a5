"""The network of `fedsign.models.lstm` as a torch module (imported where it is built)."""

from __future__ import annotations

from torch import Tensor, nn


class RecurrentNetwork(nn.Module):
    """Embedding, LSTM from a zero state, dropout, and a linear layer on the last time step."""

    def __init__(self, alphabet: int, embedding: int, hidden: int, layers: int, bias: bool, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(alphabet, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, bias=bias, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, alphabet, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Characters, int64 [B, T], to one value per character of the alphabet, [B, alphabet]."""
        outputs, _ = self.lstm(self.embedding(x))
        return self.fc(self.dropout(outputs[:, -1]))
