//! Locations that users who are not superusers may register models and datasets from.

use std::path::{Path, PathBuf};

use url::Url;

/// Greatest number of files of a folder that are looked at; a larger one is for superusers.
const MOST_FILES: usize = 100_000;

/// Greatest depth of folders in each other that are looked at.
const DEEPEST: usize = 64;

/// Locations below which analysts register models and datasets. Without any, they register nothing.
#[derive(Debug, Clone, Default)]
pub struct AllowedLocations {
    roots: Vec<Root>,
}

#[derive(Debug, Clone)]
enum Root {
    /// A folder, without links and `..` in its path.
    Folder(PathBuf),
    Address(Url),
}

/// The target of a location.
enum Place {
    Path(PathBuf),
    Address(Url),
}

impl AllowedLocations {
    /// Reads the locations of `--allow-location`: folders, `file://` URLs, and URLs whose scheme, host and path begin those
    /// of what is allowed, such as `hf://EleutherAI` and `s3://bucket/models`.
    ///
    /// # Errors
    /// The reason, with the location, if a folder does not exist or a URL is not one.
    pub fn new(roots: &[impl AsRef<str>]) -> Result<Self, String> {
        let root = |text: &str| match place(text) {
            Some(Place::Path(path)) => match std::fs::canonicalize(&path) {
                Ok(folder) => Ok(Root::Folder(folder)),
                Err(error) => Err(format!("{text}: {error}")),
            },
            Some(Place::Address(url)) => Ok(Root::Address(url)),
            None => Err(format!("\"{text}\" is not a folder or a URL such as hf://org/name")),
        };
        Ok(Self { roots: roots.iter().map(|text| root(text.as_ref())).collect::<Result<_, _>>()? })
    }

    /// Returns true if a location lies below one that is allowed, with everything in it. Links and `..` are followed. Reads
    /// folders.
    pub fn allow(&self, location: &str) -> bool {
        match place(location) {
            Some(Place::Path(path)) => self.allow_files(&path),
            Some(Place::Address(url)) => self.roots.iter().any(|root| match root {
                Root::Address(root) => is_below(&url, root),
                Root::Folder(_) => false,
            }),
            None => false,
        }
    }

    fn allow_files(&self, path: &Path) -> bool {
        let is_inside = |path: &Path| {
            self.roots.iter().any(|root| matches!(root, Root::Folder(folder) if path.starts_with(folder)))
        };
        // A pattern is looked up in the folder before it.
        let is_pattern = |part: &std::ffi::OsStr| part.as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte));
        let before: PathBuf = match path.exists() {
            true => path.to_path_buf(),
            false => path.components().take_while(|part| !is_pattern(part.as_os_str())).collect(),
        };
        let before = if before.as_os_str().is_empty() { Path::new(".") } else { &before };
        let Ok(found) = std::fs::canonicalize(before) else { return false };
        let after_pattern = path.strip_prefix(before).unwrap_or(Path::new(""));
        let climbs = before != path && after_pattern.components().any(|part| part == std::path::Component::ParentDir);
        is_inside(&found) && !climbs && all_inside(&found, &is_inside, &mut 0, 0)
    }
}

/// Returns true if everything in a folder is inside, links in it included.
fn all_inside(path: &Path, is_inside: &impl Fn(&Path) -> bool, seen: &mut usize, depth: usize) -> bool {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return false };
    if metadata.is_symlink() {
        // What a link inside leads to is looked at where it is.
        return std::fs::canonicalize(path).is_ok_and(|target| is_inside(&target));
    }
    if !metadata.is_dir() {
        return true;
    }
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    entries.into_iter().all(|entry| {
        *seen += 1;
        let Ok(entry) = entry else { return false };
        *seen <= MOST_FILES && depth < DEEPEST && all_inside(&entry.path(), is_inside, seen, depth + 1)
    })
}

/// Reads a location; `None` if programs could take it for different ones.
fn place(location: &str) -> Option<Place> {
    if location.is_empty() || location.chars().any(char::is_control) {
        return None;
    }
    if !location.contains("://") {
        let is_scheme = Url::parse(location).is_ok_and(|url| url.scheme().len() > 1);
        return (!is_scheme).then(|| Place::Path(location.into()));
    }
    let url = Url::parse(location).ok()?;
    if url.scheme() == "file" {
        let is_local = url.host_str().is_none_or(str::is_empty) && url.query().is_none() && url.fragment().is_none();
        return if is_local { url.to_file_path().ok().map(Place::Path) } else { None };
    }
    let lower = location.to_ascii_lowercase();
    let is_plain =
        !lower.contains(['\\', ' ', '#']) && !["%2e", "%2f", "%5c"].iter().any(|hidden| lower.contains(hidden));
    let after_scheme = location.split_once("://").map_or("", |(_, rest)| rest);
    let has_dots = after_scheme.split(['/', '?']).any(|part| matches!(part, "." | ".."));
    (is_plain && !has_dots && url.host_str().is_some_and(|host| !host.is_empty())).then_some(Place::Address(url))
}

fn is_below(url: &Url, root: &Url) -> bool {
    let is_same = |part: fn(&Url) -> Option<&str>| part(url) == part(root);
    if url.scheme() != root.scheme()
        || !is_same(Url::host_str)
        || url.port_or_known_default() != root.port_or_known_default()
    {
        return false;
    }
    let folder = root.path().trim_end_matches('/');
    match url.path().strip_prefix(folder) {
        // A revision of a repository follows an @.
        Some(rest) => rest.is_empty() || rest.starts_with('/') || (url.scheme() == "hf" && rest.starts_with('@')),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_bounded_by_scheme_host_and_path() {
        let allowed =
            AllowedLocations::new(&["hf://EleutherAI/pythia-70m", "s3://lab/models/", "https://lab.example/data"])
                .unwrap();
        for location in [
            "hf://EleutherAI/pythia-70m",
            "hf://EleutherAI/pythia-70m@main",
            "hf://EleutherAI/pythia-70m/model.safetensors",
            "s3://lab/models",
            "s3://lab/models/a/b.gguf",
            "https://lab.example/data/x.parquet",
            "https://lab.example:443/data/x.parquet?version=1",
        ] {
            assert!(allowed.allow(location), "{location}");
        }
        for location in [
            "hf://EleutherAI/pythia-70m-deduped",
            "hf://EleutherAI",
            "hf://eleutherai.evil/pythia-70m",
            "s3://lab/models2/a",
            "s3://lab/models/../secret",
            "s3://lab/models/%2e%2e/secret",
            "s3://lab.evil/models/a",
            "http://lab.example/data/x",
            "https://lab.example:8443/data/x",
            "https://lab.example@evil.test/data/x",
            "https://evil.test\\@lab.example/data/x",
            "https://lab.example/data#/x",
            "gs://lab/models/a",
            "https:lab.example/data",
            "file:///etc/passwd",
            "/etc/passwd",
            "",
            "s3://",
        ] {
            assert!(!allowed.allow(location), "{location}");
        }
        assert!(AllowedLocations::new(&["/no/such/folder"]).unwrap_err().contains("/no/such/folder"));
        assert!(AllowedLocations::new(&["s3://a/../b"]).is_err());
        assert!(!AllowedLocations::default().allow("."));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_dots_are_followed() {
        use std::os::unix::fs::symlink;
        let base = tempfile::tempdir().unwrap();
        let (root, other) = (base.path().join("root"), base.path().join("root-2"));
        let at = |path: &str| root.join(path).to_str().unwrap().to_owned();
        for folder in ["a/b", "linked", "climbs"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(root.join("a/b/x.csv"), "text\n").unwrap();
        std::fs::write(other.join("secret.csv"), "text\n").unwrap();
        symlink(root.join("a/b/x.csv"), root.join("linked/inside.csv")).unwrap();
        symlink(other.join("secret.csv"), root.join("climbs/secret.csv")).unwrap();
        symlink(&other, root.join("away")).unwrap();
        let entry = base.path().join("entry");
        symlink(&root, &entry).unwrap();
        let allowed = AllowedLocations::new(&[entry.to_str().unwrap()]).unwrap();
        for inside in [
            at("a/b/x.csv"),
            at("a"),
            at("a/b/"),
            at("a/../a/b/x.csv"),
            at("a/b/*.csv"),
            at("linked"),
            format!("file://{}", at("a/b/x.csv")),
        ] {
            assert!(allowed.allow(&inside), "{inside}");
        }
        for outside in [
            at("../root-2/secret.csv"),
            at("a/../../root-2"),
            at("climbs"),
            at("climbs/*.csv"),
            at("climbs/secret.csv"),
            at("away"),
            at("away/secret.csv"),
            at("a/*/../../../root-2/secret.csv"),
            at("nothing.csv"),
            format!("file://{}", at("%2e%2e/root-2/secret.csv")),
            format!("file://elsewhere{}", at("a")),
            other.to_str().unwrap().to_owned(),
            base.path().to_str().unwrap().to_owned(),
            // The folder has links that lead out of it.
            at(""),
        ] {
            assert!(!allowed.allow(&outside), "{outside}");
        }
    }
}
