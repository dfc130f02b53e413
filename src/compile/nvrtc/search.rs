//! Where NVRTC may lie. Most machines that train have it only inside torch's wheels, where no loader looks by itself.

use std::fmt;
use std::path::{Path, PathBuf};

/// The environment variable that names the library or its folder; if it is set, nothing else is searched.
pub(super) const VARIABLE: &str = "KASMINA_NVRTC";

/// Folders of a Python `site-packages` that hold NVRTC: the CUDA 13 wheels', the CUDA 12 wheels', and torch's own.
const IN_SITE_PACKAGES: [&str; 3] = ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib", "torch/lib"];

/// Folders of a CUDA toolkit that hold libraries.
const IN_TOOLKIT: [&str; 2] = ["lib64", "lib"];

/// What the search depends on.
pub(super) struct Surroundings {
    /// The library or folder that the user named.
    pub explicit: Option<PathBuf>,
    /// Files mapped into this process.
    pub loaded: Vec<PathBuf>,
    /// The active virtual environment.
    pub virtual_environment: Option<PathBuf>,
    /// Where a `.venv` is looked for, here and above.
    pub current_directory: Option<PathBuf>,
    /// Roots of CUDA toolkits.
    pub toolkits: Vec<PathBuf>,
    /// Names for the system's loader.
    pub system: Vec<PathBuf>,
}

/// One place that is searched.
pub(super) struct Place {
    path: PathBuf,
    why: &'static str,
}

impl Surroundings {
    pub(super) fn of_this_process() -> Surroundings {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut toolkits: Vec<PathBuf> = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).collect();
        let mut installed = matching(Path::new("/usr/local"), "cuda");
        installed.sort();
        toolkits.extend(installed.into_iter().rev());
        Surroundings {
            explicit: variable(VARIABLE),
            loaded: loaded_files(),
            virtual_environment: variable("VIRTUAL_ENV"),
            current_directory: std::env::current_dir().ok(),
            toolkits,
            system: ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map(PathBuf::from).to_vec(),
        }
    }

    /// The places in the order they are searched.
    pub(super) fn places(&self) -> Vec<Place> {
        if let Some(path) = &self.explicit {
            return vec![Place { path: path.clone(), why: "KASMINA_NVRTC=" }];
        }
        let mut places = Vec::new();
        let mut add = |path: PathBuf, why| {
            if !places.iter().any(|place: &Place| place.path == path) {
                places.push(Place { path, why });
            }
        };
        for file in self.loaded.iter().filter(|file| starts(file, "libnvrtc.so")) {
            add(file.clone(), "already loaded: ");
        }
        for folder in self.loaded.iter().filter(|file| starts(file, "libtorch")).filter_map(|file| file.parent()) {
            add(folder.into(), "beside the loaded torch: ");
            if let Some(packages) = folder.parent().and_then(Path::parent) {
                IN_SITE_PACKAGES.iter().for_each(|inside| add(packages.join(inside), "beside the loaded torch: "));
            }
        }
        let above = self.current_directory.iter().flat_map(|directory| directory.ancestors());
        let local = above.map(|directory| directory.join(".venv")).find(|environment| environment.is_dir());
        for environment in self.virtual_environment.iter().chain(&local) {
            let mut pythons = matching(&environment.join("lib"), "python3");
            pythons.sort();
            if pythons.is_empty() {
                add(environment.join("lib"), "");
            }
            for python in pythons {
                IN_SITE_PACKAGES.iter().for_each(|inside| add(python.join("site-packages").join(inside), ""));
            }
        }
        for toolkit in &self.toolkits {
            IN_TOOLKIT.iter().for_each(|inside| add(toolkit.join(inside), ""));
        }
        self.system.iter().for_each(|name| add(name.clone(), "the system's loader: "));
        places
    }
}

impl Place {
    /// The libraries to try here, newest first. A bare name is left to the system's loader.
    pub(super) fn libraries(&self) -> Vec<PathBuf> {
        if self.path.is_dir() {
            let mut found = matching(&self.path, "libnvrtc.so");
            found.sort_by_key(|file| std::cmp::Reverse(file.clone()));
            return found;
        }
        let looks_like_a_file = starts(&self.path, "libnvrtc") || self.why.contains('=');
        if looks_like_a_file { vec![self.path.clone()] } else { Vec::new() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.why, self.path.display())
    }
}

/// NVRTC opens its built-ins by bare name; loading them first, by path, makes that work in any folder.
pub(super) fn built_ins_beside(library: &Path) -> Vec<PathBuf> {
    match library.parent() {
        Some(folder) if library.is_absolute() => {
            let mut found = matching(folder, "libnvrtc-builtins.so");
            found.sort();
            found
        }
        _ => Vec::new(),
    }
}

/// The entries of a folder whose names begin with a prefix.
fn matching(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| starts(path, prefix)).collect()
}

fn starts(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

/// The shared libraries that are mapped into this process. Empty where there is no `/proc`.
fn loaded_files() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: Vec<PathBuf> = Vec::new();
    for path in maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..]))) {
        if (starts(path, "libnvrtc.so") || starts(path, "libtorch")) && files.last().is_none_or(|last| last != path) {
            files.push(path.into());
        }
    }
    files
}
