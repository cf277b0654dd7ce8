//! `hf://org/name[@revision][/file]`: repositories of the Hugging Face hub, through its cache on this machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::{Folder, Local, Progress, Remotes, Revision, plain};
use crate::checkpoint::digest;
use crate::{Error, Result};

/// One revision of a repository.
struct Hub<'a> {
    location: &'a str,
    api: Api,
    cache: Cache,
    repo: Repo,
    /// Current commit of the revision.
    commit: String,
    names: Vec<String>,
    progress: &'a dyn Progress,
}

/// Opens `org/name[@revision][/file]`, the text after `hf://`.
pub(super) fn open<'a>(
    remotes: &Remotes,
    location: &'a str,
    rest: &str,
    progress: &'a dyn Progress,
) -> Result<(Box<dyn Folder + 'a>, Option<String>)> {
    let failed = |reason: String| Error::Location { location: location.into(), reason };
    let (id, revision, file) =
        split(rest).ok_or_else(|| failed("a repository is written hf://org/name[@revision][/file]".into()))?;
    let cache = Cache::new(remotes.hub_cache.clone());
    let repo = Repo::with_revision(id, RepoType::Model, revision);
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(remotes.hub_endpoint.trim_end_matches('/').to_owned())
        .with_token(remotes.hub_token.clone())
        .with_user_agent("neuroql", env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let info = match call(|| api.repo(repo.clone()).info()) {
        Ok(info) if plain(&info.sha) => info,
        Ok(info) => return Err(failed(format!("the hub answers with commit \"{}\"", info.sha))),
        Err(reason) => {
            // The hub is unreachable: files in the cache are used.
            let known = file.as_deref().into_iter().chain(["config.json", "tokenizer.json"]);
            let cached =
                known.filter_map(|name| cache.repo(repo.clone()).get(name)?.parent().map(Path::to_owned)).next();
            let hint = "(a private or gated repository needs HF_TOKEN)";
            let snapshot =
                cached.ok_or_else(|| failed(format!("the hub {} says: {reason} {hint}", remotes.hub_endpoint)))?;
            tracing::warn!(location, reason, "the hub is out of reach, using the files in its cache");
            let (folder, _) = Local::open(location, &snapshot)?;
            let commit = snapshot.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let revision = Revision { name: repo.revision().to_owned(), commit };
            return Ok((Box::new(Cached { folder, revision }), file));
        }
    };
    let names = info.siblings.into_iter().map(|file| file.rfilename).collect();
    Ok((Box::new(Hub { location, api, cache, repo, commit: info.sha, names, progress }), file))
}

/// Splits into repository, revision and file.
fn split(rest: &str) -> Option<(String, String, Option<String>)> {
    let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
    // A repository is `org/name`; those of the hub's first days have no `org`.
    let (owner, parts) =
        if parts.len() > 1 && !parts[0].contains('@') { parts.split_at(1) } else { (&[][..], &parts[..]) };
    let (name, file) = parts.split_first()?;
    let (name, mut revision, mut file) = match name.split_once('@') {
        None => (*name, "main".to_owned(), file),
        Some((name, revision)) => (name, revision.replace("%2F", "/"), file),
    };
    // `refs/pr/1` is the only kind of revision with slashes in use.
    if revision == "refs" && file.len() >= 2 {
        revision = format!("refs/{}/{}", file[0], file[1]);
        file = &file[2..];
    }
    let id: Vec<&str> = owner.iter().copied().chain([name]).collect();
    let sound = |part: &str| plain(part);
    if !id.iter().chain(file).all(|part| sound(part)) || !revision.split('/').all(sound) {
        return None;
    }
    Some((id.join("/"), revision, (!file.is_empty()).then(|| file.join("/"))))
}

/// A commit in the cache.
struct Cached<'a> {
    folder: Box<dyn Folder + 'a>,
    revision: Revision,
}

impl Folder for Cached<'_> {
    fn names(&self) -> Option<&[String]> {
        self.folder.names()
    }

    fn get(&mut self, name: &str) -> Result<Option<PathBuf>> {
        self.folder.get(name)
    }

    fn revision(&self) -> Option<Revision> {
        Some(self.revision.clone())
    }
}

impl Hub<'_> {
    fn download(&self, name: &str) -> Result<PathBuf, String> {
        let repo = self.api.repo(self.repo.clone());
        // hf-hub makes paths of both headers.
        let metadata = call(|| self.api.metadata(&repo.url(name)))?;
        if !plain(metadata.etag()) || !plain(metadata.commit_hash()) {
            return Err("the hub answers with an ETag or commit that is no name".into());
        }
        let path = call(|| repo.download_with_progress(name, Report { progress: self.progress, begun: false }))?;
        if damaged(&path) {
            return Err(format!("{name} arrived damaged: its checksum is not the one the hub gives"));
        }
        Ok(path)
    }
}

impl Folder for Hub<'_> {
    fn names(&self) -> Option<&[String]> {
        Some(&self.names)
    }

    fn get(&mut self, name: &str) -> Result<Option<PathBuf>> {
        if !self.names.iter().any(|known| known == name) {
            return Ok(None);
        }
        let cached = self.cache.repo(self.repo.clone()).pointer_path(&self.commit).join(name);
        if cached.is_file() && !damaged(&cached) {
            return Ok(Some(cached));
        }
        let path = self.download(name);
        path.map(Some).map_err(|reason| Error::Location { location: self.location.into(), reason })
    }

    fn revision(&self) -> Option<Revision> {
        Some(Revision { name: self.repo.revision().to_owned(), commit: self.commit.clone() })
    }
}

/// Returns true if a file of the cache differs from its checksum, and removes it. The hub names large files by their
/// SHA-256; small ones, named by a git hash, are not checked.
fn damaged(path: &Path) -> bool {
    let Ok(blob) = path.canonicalize() else { return true };
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return false;
    }
    let sound = digest(std::slice::from_ref(&blob)).is_ok_and(|(found, _)| found.eq_ignore_ascii_case(&name));
    if !sound {
        let _ = std::fs::remove_file(&blob);
        let _ = std::fs::remove_file(path);
    }
    !sound
}

/// Calls hf-hub, and catches its panics on malformed answers.
fn call<T>(request: impl FnOnce() -> Result<T, ApiError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(request)) {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(_) => Err("the answer makes no sense".into()),
    }
}

/// Adapter of the progress of hf-hub, which announces a file twice.
struct Report<'a> {
    progress: &'a dyn Progress,
    begun: bool,
}

impl hf_hub::api::Progress for Report<'_> {
    fn init(&mut self, size: usize, name: &str) {
        if !std::mem::replace(&mut self.begun, true) {
            self.progress.begin(name, Some(size as u64));
        }
    }

    fn update(&mut self, size: usize) {
        self.progress.advance(size as u64);
    }

    fn finish(&mut self) {
        self.progress.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn repositories_revisions_and_files() {
        let of = |rest: &str| {
            let (id, revision, file) = split(rest).unwrap();
            [id, revision, file.unwrap_or_default()].join(" ")
        };
        assert_eq!(of("org/name"), "org/name main ");
        assert_eq!(of("org/name/"), "org/name main ");
        assert_eq!(of("org/name@v1"), "org/name v1 ");
        assert_eq!(of("org/name@v1/m.Q4_1.gguf"), "org/name v1 m.Q4_1.gguf");
        assert_eq!(of("org/name/sub/m.gguf"), "org/name main sub/m.gguf");
        assert_eq!(of("org/name@refs/pr/7/m.gguf"), "org/name refs/pr/7 m.gguf");
        assert_eq!(of("org/name@refs%2Fpr%2F7"), "org/name refs/pr/7 ");
        assert_eq!(of("gpt2"), "gpt2 main ");
        assert_eq!(of("gpt2@v1"), "gpt2 v1 ");
        for bad in ["", "org/../x", "org/name@", "org/name/../../etc/passwd", "org//name"] {
            assert!(split(bad).is_none(), "{bad}");
        }
    }
}
