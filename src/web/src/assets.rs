//! Files that pages load: styles, modules, and uPlot.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{Fault, PageFault};

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal as $kind:expr;)*) => {
        &[$(Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../assets/", $name)) }),*]
    };
}

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

static ASSETS: &[Asset] = assets! {
    "style.css" as CSS;
    "theme.js" as JS;
    "page.js" as JS;
    "console.js" as JS;
    "plots.js" as JS;
    "icon.svg" as SVG;
    "vendor/uPlot.iife.min.js" as JS;
    "vendor/uPlot.min.css" as CSS;
};

/// Hashes of the files, as entity tags.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let hash = digest(&SHA256, asset.bytes);
        let hexadecimal: String = hash.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{hexadecimal}\"")
    };
    ASSETS.iter().map(tag).collect()
});

/// `GET /assets/{*name}`
pub(crate) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, PageFault> {
    let Some(index) = ASSETS.iter().position(|asset| asset.name == name) else {
        return Err(Fault::not_found("there is no such file").into());
    };
    let (asset, tag) = (&ASSETS[index], &TAGS[index]);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    // A page that has a newer program behind it must not run an older script.
    let caching = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    if known.is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag)) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    Ok((caching, [(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    /// Files that others have written are those that their packages have; the table in the README says so, too.
    #[test]
    fn vendored_files_are_unchanged() {
        let readme = include_str!("../README.md");
        for (name, hash) in [
            ("vendor/uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
            ("vendor/uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
        ] {
            let asset = super::ASSETS.iter().find(|asset| asset.name == name).unwrap();
            let found: String = Sha256::digest(asset.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, hash, "{name}");
            assert!(readme.contains(hash), "{name}");
        }
    }
}
