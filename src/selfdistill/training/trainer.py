"""TRL's trainer with two things of ours: the loss on a CPU, and an epoch's end that doesn't depend on the processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..models.cpu import TRAIN_ATTENTION, response_loss


def trainer_class() -> Any:
    """A class, as its base is imported late."""
    from datasets import Dataset, concatenate_datasets
    from trl import SFTTrainer

    class Trainer(SFTTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            rows: Any = self.train_dataset
            self.rows = len(rows)
            if self.args.world_size > 1:
                blank = Dataset.from_dict({"input_ids": [[0]], "labels": [[-100]]}, features=rows.features)
                self.train_dataset: Any = concatenate_datasets([rows, blank])

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            config, args = self.model.config, self.args
            plain = args.loss_type == "nll" and not args.label_smoothing_factor and not self.aux_loss_enabled
            if config._attn_implementation == TRAIN_ATTENTION and plain and num_items_in_batch is not None:
                vocabulary = config.get_text_config().vocab_size
                loss = response_loss(model, inputs, num_items_in_batch, vocabulary)
                if loss is not None:
                    return loss * (args.world_size if args.average_tokens_across_devices else 1)
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if self.args.world_size == 1 or self.args.train_sampling_strategy != "random":
                return super()._get_train_sampler(train_dataset)
            return EvenRows(self.rows, self.args.data_seed, self.args.train_batch_size * self.args.world_size)

    return Trainer


class EvenRows:
    """The order of one process's epochs, filled up with the blank row `rows` so that each of several processes has as
    many. accelerate would train the first rows once more, and the last step would be another than with one process."""

    def __init__(self, rows: int, seed: int, multiple: int) -> None:
        from accelerate.data_loader import SeedableRandomSampler

        self.order = SeedableRandomSampler(range(rows), data_seed=seed)
        self.blank = [rows] * (-rows % multiple)

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from self.blank

    def __len__(self) -> int:
        return len(self.order) + len(self.blank)

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)
