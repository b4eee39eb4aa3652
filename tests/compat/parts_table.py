"""The parts of other packages that are watched. A test finds uses that are missing here."""

from __future__ import annotations

from tests.compat.part import Part

_TRAINER = "cmalign.trainer"
_LOADING = "evaluation.metrics.loading"
_COLUMNS = "evaluation.metrics.optional_columns"
_SCORING = "spontaneous.classification.label_scoring"
_BUILDING = "dataset_scripts.shared.building"
_MODULE = "evaluate.EvaluationModule"
_METRIC = "metrics.winrate.winrate"


def _overridden(name: str, arguments: str, where: str, why: str, *mentions: str) -> Part:
    return Part(name, where, why, arguments, overridden=True, mentions=mentions)


TRL = (
    _overridden("trl.DPOTrainer._compute_loss", "model, inputs, return_outputs", _TRAINER,
                "it adds the consistency term and the weights of pairs to this loss", "log_probs", "completion_mask",
                "ref_chosen_logps", "ref_rejected_logps", "logsigmoid"),
    _overridden("trl.DPOTrainer._prepare_dataset", "dataset, processing_class, args, dataset_name", _TRAINER,
                "it adds the tokens of the English references before the rows are tokenised"),
    _overridden("trl.DPOTrainer._set_signature_columns_if_needed", "", _TRAINER,
                "columns that are not named there are dropped", "_signature_columns", "prompt_ids", "chosen_ids",
                "rejected_ids"),
    _overridden("trl.DPOTrainer.compute_ref_log_probs", "model, inputs", _TRAINER,
                "it keeps the added columns away from the reference model"),
    Part("trl.DPOTrainer.compute_loss", _TRAINER, "it calls the overridden loss", mentions=("_compute_loss",)),
    Part("trl.DPOTrainer._tokenizer", _TRAINER, "padding and end tokens are taken from there"),
    Part("trl.DPOTrainer._metrics", _TRAINER, "the consistency figures are logged there"),
    Part("trl.DPOTrainer._tag_names", _TRAINER, "tags of the model card"),
    Part("trl.DPOTrainer._name", _TRAINER, "name of the method in the model card"),
    Part("trl.DPOTrainer.precompute_ref_logps", _TRAINER, "tells where the reference's log-probabilities come from"),
    Part("trl.DPOTrainer.loss_types", _TRAINER, "pairs are weighted in the sigmoid loss only"),
    Part("trl.DPOTrainer.loss_weights", _TRAINER, "share of the sigmoid loss"),
    Part("trl.DPOTrainer.beta", _TRAINER, "scale of the weighted loss"),
    Part("trl.DPOTrainer.aux_loss_enabled", _TRAINER, "whether the loss holds more than the preferences"),
    Part("trl.DPOTrainer.ref_model", _TRAINER, "its log-probabilities are recorded"),
    Part("trl.trainer.dpo_trainer.DataCollatorForPreference", _TRAINER, "the collator is a subclass",
         "pad_token_id=, max_length=, truncation_mode=, pad_to_multiple_of="),
    _overridden("trl.trainer.dpo_trainer.DataCollatorForPreference.torch_call", "examples", _TRAINER,
                "the English references are padded there"),
    Part("trl.trainer.utils.get_config_model_id", _TRAINER, "name of the output folder", "config"),
    Part("trl.trainer.utils.global_then_local_main_first", _TRAINER, "one process a machine tokenises", ""),
    Part("trl.trainer.utils.pad", _TRAINER, "the references are padded like TRL's rows",
         "tensors, padding_value=, padding_side=, pad_to_multiple_of="),
    Part("trl.data_utils._tokenize", _TRAINER, "the references are tokenised like the answers",
         "processing_class, input, add_generation_prompt="),
    Part("trl.data_utils.common_prefix_length", _TRAINER, "where the reference's answer begins", "ids, other_ids"),
    Part("trl.trainer.sft_trainer.DataCollatorForLanguageModeling", "launch.packing",
         "packed rows are measured as TRL collates them", "pad_token_id=, padding_free="),
    Part("trl.trainer.sft_trainer.DataCollatorForLanguageModeling.torch_call", "launch.packing",
         "positions begin anew with each example", mentions=("seq_lengths",)),
)  # fmt: skip

TRANSFORMERS = (
    Part("transformers.Trainer._signature_columns", _TRAINER, "columns that are not named there are dropped"),
    Part("transformers.PreTrainedModel.base_model", _TRAINER, "hidden states are read from the backbone's forward"),
    Part("transformers.PreTrainedConfig._attn_implementation", _SCORING,
         "whether attention takes a 4-D mask"),
    Part("transformers.PreTrainedConfig._name_or_path", "generation.transformers_backend",
         "name of a model object in records"),
    Part("transformers.PreTrainedConfig.get_text_config", _TRAINER, "number of layers of the text model"),
    Part("transformers.DynamicCache.update", _SCORING, "a cache is built of shared keys and values",
         "key_states, value_states, layer_idx"),
    Part("transformers.DynamicCache.layers", _SCORING, "keys and values of a prefix are kept"),
    Part("transformers.cache_utils.DynamicLayer.keys", _SCORING, "keys of a prefix are kept"),
    Part("transformers.cache_utils.DynamicLayer.values", _SCORING, "values of a prefix are kept"),
    Part("transformers.ContinuousBatchingConfig", "generation.transformers_backend", "bounds of memory",
         "num_blocks=, page_size=, max_batch_tokens=, seed="),
    Part("transformers.integrations.get_available_reporting_integrations", "hub.trackers", "trackers are found by name",
         ""),
    Part("transformers.integrations.get_reporting_integration_callbacks", "hub.trackers", "trackers are found by name",
         "report_to"),
    Part("transformers.trainer_callback.PrinterCallback", "cli.demo.tiny_dpo", "the demo prints its own lines"),
    Part("transformers.pytorch_utils.Conv1D", "launch.lora", "the linear modules of GPT-2"),
    Part("transformers.utils.logging.set_verbosity_error", "core.errors", "loading is quiet", ""),
)  # fmt: skip

DATASETS = (
    Part("datasets.Dataset._fingerprint", "mdaq.selector", "tells datasets apart"),
    Part("datasets.Dataset._indices", "data.columns",
         "whether rows were selected or shuffled: columns are read directly"),
    Part("datasets.Dataset", "cmalign.builder", "a dataset is made of a table without a copy",
         "arrow_table, fingerprint="),
    Part("datasets.table.InMemoryTable", "cmalign.builder", "a dataset is made of a table without a copy", "table"),
    _overridden("datasets.GeneratorBasedBuilder._info", "", _BUILDING, "columns of the rows"),
    _overridden("datasets.GeneratorBasedBuilder._split_generators", "dl_manager", _BUILDING, "the only split"),
    Part("datasets.GeneratorBasedBuilder._generate_examples", _BUILDING, "the rows are written from there", ""),
    Part("datasets.config.HF_DATASETS_CACHE", "dataset_scripts.shared.public_files", "downloads lie there"),
    Part("datasets.exceptions.DatasetGenerationError", "hub.publish", "an upload that cannot be read back"),
)  # fmt: skip

EVALUATE = (
    Part("evaluate.loading.init_dynamic_modules", _LOADING, "folder of the module cache", ""),
    Part("evaluate.loading.files_to_hash", _LOADING, "folder name of a module's content", "file_paths"),
    Part("evaluate.loading.CachedEvaluationModuleFactory.get_module", _LOADING,
         "layout of the module cache: 64-character folders, the script modified last is taken",
         mentions=("module_type", "st_mtime", "importable_directory_path", "hashes")),
    Part("evaluate.loading._copy_script_and_other_resources_in_importable_dir", _LOADING,
         "the lock beside a module's folder", mentions=(".lock",)),
    _overridden(f"{_MODULE}.compute", "predictions, references, **kwargs", _COLUMNS, "optional columns are filled in"),
    _overridden(f"{_MODULE}.add_batch", "predictions, references, **kwargs", _COLUMNS,
                "optional columns are filled in"),
    _overridden(f"{_MODULE}.add", "prediction, reference, **kwargs", _COLUMNS, "optional columns are filled in"),
    _overridden(f"{_MODULE}._feature_names", "", _COLUMNS, "which columns a metric takes"),
    Part(f"{_MODULE}._info", _METRIC, "description of a metric", ""),
    Part(f"{_MODULE}._compute", _METRIC, "a metric's figures", "predictions=, references="),
    Part("evaluate.module.CombinedEvaluations.add_batch", _COLUMNS,
         "`evaluate.combine` looks up the columns of each metric in its local `batch`",
         mentions=("batch", "_feature_names")),
    Part("evaluate.module.CombinedEvaluations.add", _COLUMNS,
         "`evaluate.combine` looks up the columns of each metric in its local `batch`",
         mentions=("batch", "_feature_names")),
    Part("evaluate.utils.file_utils.hf_hub_url", _LOADING, "the address that evaluate asks",
         "path=, name=, revision="),
    Part("evaluate.utils.file_utils.get_authentication_headers_for_url", _LOADING,
         "the token it sends",
         "url"),
    Part("evaluate.utils.file_utils.add_start_docstrings", _METRIC, "help of the metrics", "description, arguments"),
    Part("evaluate.config.HF_EVALUATE_OFFLINE", _LOADING, "whether evaluate asks the Hub"),
    Part("evaluate.SCRIPTS_VERSION", _LOADING, "the revision that evaluate asks for first"),
)  # fmt: skip

OTHERS = (
    Part("accelerate.utils.is_peft_model", _TRAINER, "the backbone of an adapted model", "model"),
    Part("accelerate.hooks.add_hook_to_module", _SCORING, "where the inputs of offloaded models go",
         mentions=("_hf_hook",)),
    Part("accelerate.hooks.AlignDevicesHook.execution_device", _SCORING,
         "where the inputs of offloaded models go"),
    Part("huggingface_hub.constants.HF_HUB_OFFLINE", _LOADING, "whether the Hub may be asked"),
    Part("huggingface_hub.utils.filter_repo_objects", "hub.repository", "files of an upload",
         "items, allow_patterns=, ignore_patterns="),
    Part("huggingface_hub.utils.validate_repo_id", "data.sources", "whether a source can be a Hub name", "repo_id"),
    Part("huggingface_hub.errors.HfHubHTTPError", "hub.repository", "errors of the Hub are explained"),
    Part("huggingface_hub.errors.HFValidationError", "hub.repository", "errors of the Hub are explained"),
    Part("huggingface_hub.errors.InferenceTimeoutError", "generation.server_backend", "requests are tried again"),
    Part("huggingface_hub.errors.OfflineModeIsEnabled", "generation.server_backend", "the message names the variable"),
    Part("sentence_transformers.sentence_transformer.losses.TripletLoss", "mdaq.quality.finetuning", "the paper's loss",
         "model, distance_metric=, triplet_margin="),
    Part("sentence_transformers.sentence_transformer.losses.TripletDistanceMetric.EUCLIDEAN",
         "mdaq.quality.finetuning", "the paper's distance"),
    Part("sentence_transformers.sentence_transformer.modules.Normalize", "mdaq.quality.finetuning",
         "vectors of unit length"),
    Part("sentence_transformers.sentence_transformer.modules.StaticEmbedding", "models.encoder",
         "static models take large batches; they are known by this name"),
)  # fmt: skip

PARTS = (*TRL, *TRANSFORMERS, *DATASETS, *EVALUATE, *OTHERS)
