//! The rows: one at least for every name in every registry.

use super::data::Data;

/// A row: the section of a spec that it is about, and a spec with it in JSON, but for the data.
pub(super) struct Row {
    pub section: &'static str,
    pub name: &'static str,
    pub spec: &'static str,
    pub data: Data,
}

pub(super) const EXPORTED: &str = r#""model": {"exported": {"path": "p"}}, SGD"#;

pub(super) const MLP: &str = r#""model": {"mlp": {"hidden": [8, 5], "dropout": 0.25}}"#;
pub(super) const SGD: &str = r#""optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.9}}"#;

pub(super) const ROWS: &[Row] = &[
    Row { section: "model", name: "mnist_cnn", spec: r#""model": {"mnist_cnn": {}}, SGD"#, data: Data::Images },
    Row { section: "model", name: "mlp", spec: "MLP, SGD", data: Data::Classes },
    // In slices, of which some of the last batch are smaller.
    Row {
        section: "training",
        name: "shards",
        spec: r#"MLP, SGD, "metrics": ["accuracy", "perplexity"], "data": {"augment": [{"mix_up": {"alpha": 0.4}}]}, "training": {"shards": 3, REST}"#,
        data: Data::Classes,
    },
    Row {
        section: "training",
        name: "shards",
        spec: r#""model": {"linear": {}}, SGD, "metrics": ["r2", "mae"], "training": {"shards": 5, REST}"#,
        data: Data::Numbers,
    },
    Row { section: "model", name: "linear", spec: r#""model": {"linear": {}}, SGD"#, data: Data::Numbers },
    Row {
        section: "model",
        name: "resnet",
        spec: r#""model": {"resnet": {"depth": 18, "stem": "STEM_SMALL"}}, SGD"#,
        data: Data::Pictures,
    },
    Row {
        section: "model",
        name: "vit",
        spec: r#""model": {"vit": {"patch": 4, "layers": 2, "heads": 2, "width": 8, "dropout": 0.25}}, SGD"#,
        data: Data::Pictures,
    },
    Row {
        section: "model",
        name: "gpt",
        spec: r#""model": {"gpt": {"layers": 2, "heads": 2, "width": 8, "context": 9, "dropout": 0.25}}, SGD"#,
        data: Data::Tokens,
    },
    Row {
        section: "model",
        name: "sequential",
        spec: r#""model": {"sequential": {"layers": [
            {"conv2d": {"out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 2, "groups": 3, "bias": false}},
            {"batch_norm2d": {}}, {"leaky_relu": {"negative_slope": 0.2}},
            {"max_pool2d": {"kernel_size": 3, "stride": 1, "padding": 1}}, {"dropout2d": {"p": 0.25}},
            {"group_norm": {"num_groups": 2}}, {"elu": {"alpha": 0.5}}, {"avg_pool2d": {"kernel_size": 2, "stride": 1, "padding": 1}},
            {"silu": {}}, {"adaptive_avg_pool2d": {"output_size": 2}}, {"flatten": {}}, {"linear": {"out_features": 9, "bias": false}},
            {"batch_norm1d": {"momentum": 0.5}}, {"tanh": {}}, {"linear": {"out_features": 8}}, {"sigmoid": {}}, {"softmax": {}},
            {"layer_norm": {}}, {"relu": {}}, {"linear": {}}, {"log_softmax": {}}
        ]}}, "loss": {"nll": {}}, SGD"#,
        data: Data::Pictures,
    },
    Row {
        section: "model",
        name: "sequential",
        spec: r#""model": {"sequential": {"layers": [
            {"embedding": {"num_embeddings": 11, "embedding_dim": 8}},
            {"transformer_encoder_layer": {"nhead": 2, "dim_feedforward": 12, "dropout": 0.25, "activation": "ACTIVATION_GELU", "norm_first": true}},
            {"transformer_encoder_layer": {"nhead": 4, "dim_feedforward": 12}}, {"gelu": {"approximate": "tanh"}},
            {"conv1d": {"out_channels": 4, "kernel_size": 3, "dilation": 2}}, {"max_pool1d": {"kernel_size": 2}},
            {"flatten": {}}, {"dropout": {"p": 0.25}}, {"linear": {}}
        ]}}, SGD"#,
        data: Data::Sentences,
    },
    // BatchNorm and dropout; tied weights; a constant and a buffer that is not saved; its own loss
    // and metrics; two inputs; masks of infinities; two files.
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("cnn") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("gpt") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("tied") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("step_metrics") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("two_inputs") },
    Row { section: "model", name: "exported", spec: EXPORTED, data: Data::Exported("masks") },
    Row {
        section: "model",
        name: "exported",
        spec: r#""model": {"exported": {"path": "p", "eval_path": "e"}}, SGD"#,
        data: Data::Exported("plain"),
    },
    Row {
        section: "model",
        name: "torchscript",
        spec: r#""model": {"torchscript": {"path": "p"}}, SGD"#,
        data: Data::Script,
    },
    Row {
        section: "model",
        name: "torchscript",
        spec: r#""model": {"torchscript": {"path": "p", "training_step": true}}, SGD"#,
        data: Data::Script,
    },
    Row { section: "data", name: "idx", spec: "MLP, SGD", data: Data::Images },
    Row { section: "data", name: "safetensors", spec: "MLP, SGD", data: Data::Classes },
    Row { section: "data", name: "npy", spec: "MLP, SGD", data: Data::Npy },
    Row { section: "data", name: "npz", spec: "MLP, SGD", data: Data::Npz },
    Row { section: "data", name: "cifar", spec: "MLP, SGD", data: Data::Cifar },
    Row { section: "data", name: "image_folder", spec: "MLP, SGD", data: Data::ImageFolder },
    Row { section: "data", name: "image_folder", spec: "MLP, SGD", data: Data::ListedImages },
    Row { section: "data", name: "csv", spec: "MLP, SGD", data: Data::Csv },
    Row { section: "data", name: "parquet", spec: "MLP, SGD", data: Data::Parquet },
    Row {
        section: "data",
        name: "text",
        spec: r#""model": {"gpt": {"layers": 1, "heads": 2, "width": 8, "dropout": 0.25}}, SGD, "data": {"split": {"fraction": 0.1}}"#,
        data: Data::Text,
    },
    Row {
        section: "data",
        name: "split",
        spec: r#"MLP, SGD, "data": {"split": {"fraction": 0.1, "seed": 3, "stratify": true}}"#,
        data: Data::Classes,
    },
    Row { section: "data", name: "limit", spec: r#"MLP, SGD, "data": {"limit": 38}"#, data: Data::Images },
    Row {
        section: "data",
        name: "normalize",
        spec: r#"MLP, SGD, "data": {"split": {"fraction": 0.1}, "normalize": {"measure": true}}"#,
        data: Data::Images,
    },
    Row {
        section: "data",
        name: "sampling",
        spec: r#"MLP, SGD, "data": {"sampling": {"balance_classes": true}}"#,
        data: Data::Classes,
    },
    Row {
        section: "data",
        name: "sampling",
        spec: r#"MLP, SGD, "data": {"sampling": {"weights": "w"}}"#,
        data: Data::Weighted,
    },
    Row {
        section: "augment",
        name: "crop",
        spec: r#"MLP, SGD, "data": {
            "normalize": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}, "augment": [{"crop": {"padding": 2, "fill": 0.5}}]
        }"#,
        data: Data::Pictures,
    },
    Row {
        section: "augment",
        name: "flip",
        spec: r#"MLP, SGD, "data": {"augment": [{"flip": {}}, {"flip": {"p": 0.3, "vertical": true}}]}"#,
        data: Data::Pictures,
    },
    Row {
        section: "augment",
        name: "erase",
        spec: r#"MLP, SGD, "data": {"normalize": {"measure": true}, "augment": [{"crop": {"padding": 3}}, {"erase": {"p": 0.8}}]}"#,
        data: Data::Images,
    },
    Row {
        section: "augment",
        name: "mix_up",
        spec: r#"MLP, SGD, "data": {"augment": [{"mix_up": {"alpha": 0.4}}]}, "training": {"accumulate_steps": 4, REST}"#,
        data: Data::Classes,
    },
    Row {
        section: "augment",
        name: "mix_up",
        spec: r#"MLP, SGD, "data": {"augment": [{"mix_up": {}}]}, "loss": {"binary_cross_entropy": {}}"#,
        data: Data::Labels,
    },
    Row {
        section: "augment",
        name: "cut_mix",
        spec: r#"MLP, SGD, "data": {"augment": [{"crop": {"padding": 1}}, {"flip": {}}, {"cut_mix": {}}, {"erase": {}}]}"#,
        data: Data::Pictures,
    },
    Row {
        section: "augment",
        name: "noise",
        spec: r#"MLP, SGD, "data": {"augment": [{"noise": {"std": 0.1}}]}"#,
        data: Data::Numbers,
    },
    Row {
        section: "optimizer",
        name: "sgd",
        spec: r#"MLP, "optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": true, "weight_decay": 0.01}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "sgd",
        spec: r#"MLP, "optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.9, "dampening": 0.3}}"#,
        data: Data::Classes,
    },
    Row { section: "optimizer", name: "adamw", spec: r#"MLP, "optimizer": {"adamw": {}}"#, data: Data::Classes },
    Row {
        section: "optimizer",
        name: "adamw",
        spec: r#"MLP, "optimizer": {"adamw": {}, "freeze": ["0.*"], "groups": [{"parameters": ["6.*"], "rate_scale": 0.1, "weight_decay": 0}]}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "adamw",
        spec: r#"MLP, "optimizer": {"adamw": {"amsgrad": true}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "adam",
        spec: r#"MLP, "optimizer": {"adam": {"weight_decay": 0.1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "adam",
        spec: r#"MLP, "optimizer": {"adam": {"amsgrad": true}}"#,
        data: Data::Classes,
    },
    Row { section: "optimizer", name: "rmsprop", spec: r#"MLP, "optimizer": {"rmsprop": {}}"#, data: Data::Classes },
    Row {
        section: "optimizer",
        name: "rmsprop",
        spec: r#"MLP, "optimizer": {"rmsprop": {"weight_decay": 0.1, "momentum": 0.9, "centered": true}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "adagrad",
        spec: r#"MLP, "optimizer": {"adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "optimizer",
        name: "lion",
        spec: r#"MLP, "optimizer": {"lion": {"weight_decay": 0.1}, "freeze": ["0.*"]}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "constant",
        spec: r#"MLP, SGD, "schedule": {"constant": {"warmup_steps": 3}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "cosine",
        spec: r#"MLP, SGD, "schedule": {"cosine": {"warmup_steps": 2, "final_ratio": 0.1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "cosine",
        spec: r#"MLP, SGD, "schedule": {"cosine": {"warmup_steps": 1, "restart_steps": 2, "restart_growth": 2}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "step",
        spec: r#"MLP, SGD, "schedule": {"step": {"warmup_steps": 1, "every_steps": 2}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "multi_step",
        spec: r#"MLP, SGD, "schedule": {"multi_step": {"at_steps": [1, 4]}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "exponential",
        spec: r#"MLP, SGD, "schedule": {"exponential": {"factor": 0.9}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "polynomial",
        spec: r#"MLP, SGD, "schedule": {"polynomial": {"power": 2, "final_ratio": 0.1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "linear",
        spec: r#"MLP, SGD, "schedule": {"linear": {"warmup_steps": 2}}"#,
        data: Data::Classes,
    },
    Row {
        section: "schedule",
        name: "one_cycle",
        spec: r#"MLP, SGD, "schedule": {"one_cycle": {}}"#,
        data: Data::Classes,
    },
    // It falls with each validation pass but the first, and those after a fall.
    Row {
        section: "schedule",
        name: "plateau",
        spec: r#"MLP, SGD, "schedule": {"plateau": {"patience_validations": 0, "threshold": 1, "cooldown": 1}}"#,
        data: Data::Classes,
    },
    Row {
        section: "loss",
        name: "cross_entropy",
        spec: r#"MLP, SGD, "loss": {"cross_entropy": {"label_smoothing": 0.1, "class_weights": [1, 2, 3], "ignored_label": 1}}"#,
        data: Data::Classes,
    },
    Row { section: "loss", name: "nll", spec: r#"MLP, SGD, "loss": {"nll": {}}"#, data: Data::Classes },
    Row { section: "loss", name: "mse", spec: r#"MLP, SGD, "loss": {"mse": {}}"#, data: Data::Numbers },
    Row {
        section: "training",
        name: "precision",
        spec: r#"MLP, SGD, "training": {"precision": "PRECISION_BFLOAT16", REST}"#,
        data: Data::Classes,
    },
    Row {
        section: "training",
        name: "accumulate_steps",
        spec: r#"MLP, SGD, "training": {"accumulate_steps": 4, REST}, "loss": {"cross_entropy": {"class_weights": [1, 2, 3]}}"#,
        data: Data::Classes,
    },
    Row {
        section: "training",
        name: "ema_decay",
        spec: r#""model": {"exported": {"path": "p"}}, SGD, "training": {"ema_decay": 0.9, REST}"#,
        data: Data::Exported("masks"),
    },
    Row {
        section: "training",
        name: "ema_decay",
        spec: r#"MLP, SGD, "training": {"ema_decay": 0.9, REST}"#,
        data: Data::Classes,
    },
    Row {
        section: "training",
        name: "channels_last",
        spec: r#""model": {"resnet": {"depth": 18, "stem": "STEM_SMALL"}}, "optimizer": {"adamw": {}}, "training": {"channels_last": true, "ema_decay": 0.9, REST}"#,
        data: Data::Pictures,
    },
    Row {
        section: "training",
        name: "channels_last",
        spec: r#""model": {"sequential": {"layers": [
            {"conv2d": {"out_channels": 6, "kernel_size": 3, "padding": 1}}, {"relu": {}}, {"conv2d": {"out_channels": 4, "kernel_size": 1}},
            {"max_pool2d": {"kernel_size": 2}}, {"flatten": {}}, {"linear": {}}
        ]}}, SGD, "training": {"channels_last": true, REST}"#,
        data: Data::Pictures,
    },
    Row {
        section: "training",
        name: "on_divergence",
        spec: r#"MLP, SGD, "training": {"on_divergence": "ON_DIVERGENCE_SKIP_STEP", REST}"#,
        data: Data::Classes,
    },
    Row {
        section: "mode",
        name: "lr_range",
        spec: r#"MLP, SGD, "mode": "MODE_LR_RANGE", "lr_range": {"steps": 6}"#,
        data: Data::Classes,
    },
    Row {
        section: "loss",
        name: "binary_cross_entropy",
        spec: r#"MLP, SGD, "loss": {"binary_cross_entropy": {"positive_weights": [1, 2, 3]}}"#,
        data: Data::Labels,
    },
    Row { section: "loss", name: "l1", spec: r#"MLP, SGD, "loss": {"l1": {}}"#, data: Data::Numbers },
    Row { section: "loss", name: "huber", spec: r#"MLP, SGD, "loss": {"huber": {"delta": 0.2}}"#, data: Data::Numbers },
    Row {
        section: "loss",
        name: "kl_divergence",
        spec: r#"MLP, SGD, "loss": {"kl_divergence": {}}"#,
        data: Data::Shares,
    },
    Row {
        section: "loss",
        name: "next_token",
        spec: r#""model": {"exported": {"path": "p"}}, SGD, "loss": {"next_token": {"ignored_label": 3}}"#,
        data: Data::Exported("gpt"),
    },
    Row { section: "metrics", name: "accuracy", spec: r#"MLP, SGD, "metrics": ["accuracy"]"#, data: Data::Classes },
    Row {
        section: "metrics",
        name: "accuracy",
        spec: r#"MLP, SGD, "metrics": ["accuracy"], "loss": {"binary_cross_entropy": {}}"#,
        data: Data::Labels,
    },
    Row { section: "metrics", name: "perplexity", spec: r#"MLP, SGD, "metrics": ["perplexity"]"#, data: Data::Classes },
    Row { section: "metrics", name: "mae", spec: r#"MLP, SGD, "metrics": ["mae"]"#, data: Data::Numbers },
    Row { section: "metrics", name: "top_<k>", spec: r#"MLP, SGD, "metrics": ["top_2"]"#, data: Data::Classes },
    Row {
        section: "metrics",
        name: "precision_macro",
        spec: r#"MLP, SGD, "metrics": ["precision_macro"]"#,
        data: Data::Classes,
    },
    Row {
        section: "metrics",
        name: "precision_micro",
        spec: r#"MLP, SGD, "metrics": ["precision_micro"]"#,
        data: Data::Classes,
    },
    Row {
        section: "metrics",
        name: "recall_macro",
        spec: r#"MLP, SGD, "metrics": ["recall_macro"]"#,
        data: Data::Classes,
    },
    Row {
        section: "metrics",
        name: "recall_micro",
        spec: r#"MLP, SGD, "metrics": ["recall_micro"]"#,
        data: Data::Classes,
    },
    Row { section: "metrics", name: "f1_macro", spec: r#"MLP, SGD, "metrics": ["f1_macro"]"#, data: Data::Classes },
    Row { section: "metrics", name: "f1_micro", spec: r#"MLP, SGD, "metrics": ["f1_micro"]"#, data: Data::Classes },
    Row {
        section: "metrics",
        name: "f1_macro",
        spec: r#"MLP, SGD, "metrics": ["f1_macro", "recall_micro"], "loss": {"binary_cross_entropy": {}}"#,
        data: Data::Labels,
    },
    Row {
        section: "metrics",
        name: "auc",
        spec: r#"MLP, SGD, "metrics": ["auc"], "loss": {"binary_cross_entropy": {}}"#,
        data: Data::Label,
    },
    Row { section: "metrics", name: "rmse", spec: r#"MLP, SGD, "metrics": ["rmse"]"#, data: Data::Numbers },
    Row { section: "metrics", name: "r2", spec: r#"MLP, SGD, "metrics": ["r2"]"#, data: Data::Numbers },
    Row {
        section: "metrics",
        name: "confusion_matrix",
        spec: r#"MLP, SGD, "metrics": ["confusion_matrix", "f1_macro"]"#,
        data: Data::Classes,
    },
];
