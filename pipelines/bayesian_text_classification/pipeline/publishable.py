"""The base class that saves and publishes a pipeline."""

import tempfile
from abc import abstractmethod
from typing import Any

from .members import Members, save_members
from .model_card import merged
from .ordinary import OrdinaryPipeline
from .publishing import publish
from .saving import STALE, check_of, merged_requirements, save


class PublishablePipeline(OrdinaryPipeline):
    """A pipeline that is saved and published with its options, the code it needs, and a model card."""

    @abstractmethod
    def saved_options(self) -> dict[str, Any]:
        """The options that `config.json` gets, as JSON values."""

    @abstractmethod
    def _members_to_save(self) -> Members:
        """The models of the pipeline. Raises ValueError if they cannot be saved together."""

    @abstractmethod
    def _can_sample(self) -> bool:
        """Whether the model has dropout to sample, or there are several models."""

    @abstractmethod
    def _save_arrays(self, folder: Any) -> None:
        """Write scope and prediction sets into their folders, if there are any."""

    @abstractmethod
    def _orders(self) -> list[list[int]]:
        """The class ids of each model but the first, in the order of the first one's classes."""

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Write a folder that `pipeline(model=folder, trust_remote_code=True)` loads without this package.

        It holds the model, the tokenizer, the code they need, and `handler.py` for Inference Endpoints. `config.json`
        has the calibration and the options `num_samples`, `tolerance`, `masks`, `dropout`, `threshold`,
        `novelty_level` and `coverage`; the folder `scope` has what `learn_scope` has learned, and `prediction_sets`
        what `conformalize` has fitted. The model's card is copied, with a section on the scores; in an existing
        README.md only that section changes. A PEFT adapter goes into the folder `adapter`; loading it requires `peft`.
        Weights, scope, prediction sets and code of an earlier save are removed from the folder. The caller's model is
        not changed.

        Args:
            save_directory: The folder; created if it does not exist.
            **kwargs: Arguments of the model's and the tokenizer's `save_pretrained`.

        Raises:
            ValueError: Every call with the saved options would fail, such as one that samples a model without dropout.
        """
        if kwargs.pop("push_to_hub", False):
            raise ValueError("save_pretrained does not accept push_to_hub=True; call classifier.push_to_hub(repo_id)")
        members = self._members_to_save()
        options, can_sample = self.saved_options(), self._can_sample()
        save(type(self), self.model, self.tokenizer, options, save_directory, can_sample, **kwargs)
        save_members(members, self._orders(), save_directory, **kwargs)
        self._save_arrays(save_directory)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **kwargs: Any,
    ) -> str:
        """Publish what `save_pretrained` writes as one commit, and return its URL.

        Args:
            repo_id: "user/name"; created if it does not exist. In an existing model card, only our section changes.
            private: Whether a new repository is private; None: the owner's default.
            token: Hub token; None: the one from the environment or from `hf auth login`.
            commit_message: Message of the commit.
            revision: Branch to commit to; None: main.
            create_pr: Open a pull request instead.
            **kwargs: Arguments of `save_pretrained`.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **kwargs)
            return publish(
                folder,
                repo_id,
                private=private,
                token=token,
                message=commit_message or "Upload the pipeline",
                revision=revision,
                create_pr=create_pr,
                merge={"README.md": merged, "requirements.txt": merged_requirements},
                check=check_of(type(self)),
                stale=STALE,
            )
