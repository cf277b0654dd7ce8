//! Sites: the points of a block at which neurons are read.

use std::fmt;
use std::str::FromStr;

use crate::{Activation, Config, Error, Result};

/// Site at which neurons are read, by its TransformerLens hook name.
///
/// A neuron of the residual stream, of what a sublayer writes to it or of what an MLP reads is a dimension of it; one of
/// `attn.z` is a dimension of a head, `head·d_head + j`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// `blocks.{l}.hook_resid_pre`: the residual stream before the block.
    ResidPre,
    /// `blocks.{l}.attn.hook_z`: values mixed by attention, heads side by side, before its output matrix.
    AttnZ,
    /// `blocks.{l}.hook_attn_out`: what attention adds to the residual stream, after a norm of it if there is one.
    AttnOut,
    /// `blocks.{l}.hook_resid_mid`: the residual stream between attention and MLP, where the one follows the other.
    ResidMid,
    /// `blocks.{l}.hook_mlp_in`: the residual stream that the MLP reads, before its norm.
    MlpIn,
    /// `blocks.{l}.mlp.hook_pre`: input of the activation function (gated MLPs: the gate's; experts: of those that the
    /// token is routed to, else 0).
    MlpPre,
    /// `blocks.{l}.mlp.hook_mid`: solu_ln models, after SoLU and before its LayerNorm.
    MlpMid,
    /// `blocks.{l}.mlp.hook_post`: after the activation function (gated MLPs: `act(gate)·up`; solu_ln: after the LayerNorm).
    MlpPost,
    /// `blocks.{l}.hook_mlp_out`: what the MLP adds to the residual stream, after a norm of it if there is one.
    MlpOut,
    /// `blocks.{l}.hook_resid_post`: the residual stream after the block.
    ResidPost,
}

impl Site {
    /// All sites, in the order of a block's computation.
    pub const ALL: [Self; 10] = [
        Self::ResidPre,
        Self::AttnZ,
        Self::AttnOut,
        Self::ResidMid,
        Self::MlpIn,
        Self::MlpPre,
        Self::MlpMid,
        Self::MlpPost,
        Self::MlpOut,
        Self::ResidPost,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResidPre => "resid_pre",
            Self::AttnZ => "attn.z",
            Self::AttnOut => "attn_out",
            Self::ResidMid => "resid_mid",
            Self::MlpIn => "mlp_in",
            Self::MlpPre => "mlp.pre",
            Self::MlpMid => "mlp.mid",
            Self::MlpPost => "mlp.post",
            Self::MlpOut => "mlp_out",
            Self::ResidPost => "resid_post",
        }
    }

    /// Returns true if its neurons are hidden units of an MLP, with weights of their own.
    pub fn is_of_mlp_neurons(self) -> bool {
        matches!(self, Self::MlpPre | Self::MlpMid | Self::MlpPost)
    }

    /// Returns true if operations change its values in place after it.
    pub(crate) fn is_overwritten(self) -> bool {
        matches!(self, Self::ResidPre | Self::ResidMid | Self::MlpIn | Self::MlpPre | Self::ResidPost)
    }

    /// Other names: those of TransformerLens' bridge (3.x) that stand for the same values in every architecture.
    fn is_named(self, name: &str) -> bool {
        let others: &[&str] = match self {
            Self::ResidPre => &["in"],
            Self::ResidPost => &["out"],
            Self::MlpPost => &["mlp.out.in"],
            Self::AttnZ => &["attn.o.in"],
            _ => &[],
        };
        self.name() == name || others.contains(&name)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A site as a user names it, and the layer in the name if it is a full hook name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteName {
    /// The site.
    pub site: Site,
    /// The layer that a full hook name has: `3` of `blocks.3.hook_resid_post`.
    pub layer: Option<usize>,
}

impl From<Site> for SiteName {
    fn from(site: Site) -> Self {
        Self { site, layer: None }
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(layer) = self.layer else { return self.site.fmt(f) };
        match self.site.name().rsplit_once('.') {
            None => write!(f, "blocks.{layer}.hook_{}", self.site),
            Some((before, last)) => write!(f, "blocks.{layer}.{before}.hook_{last}"),
        }
    }
}

impl FromStr for SiteName {
    type Err = Error;

    /// Parses `resid_post`, `hook_resid_post`, `mlp.post`, `mlp.hook_post` or a full hook name.
    fn from_str(name: &str) -> Result<Self> {
        let parsed = || {
            let (layer, rest) = match name.strip_prefix("blocks.") {
                None => (None, name),
                Some(rest) => {
                    let (layer, rest) = rest.split_once('.')?;
                    let digits = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
                    (Some(layer.parse().ok().filter(|_| digits)?), rest)
                }
            };
            // `hook_` comes before the last part, which may have dots before it.
            let bare = match rest.rsplit_once('.') {
                None => rest.strip_prefix("hook_").unwrap_or(rest).to_owned(),
                Some((before, last)) => format!("{before}.{}", last.strip_prefix("hook_").unwrap_or(last)),
            };
            // The names of the bridge are those of its hooks only, as `in` says little by itself.
            let hook = rest.rsplit('.').next().is_some_and(|last| last.starts_with("hook_"));
            let site = Site::ALL.into_iter().find(|site| site.name() == bare || (hook && site.is_named(&bare)))?;
            Some(Self { site, layer })
        };
        parsed().ok_or_else(|| {
            let sites = Site::ALL.map(Site::name).join(", ");
            let reason = format!("\"{name}\" is not a site; sites are {sites}, or a hook's name in TransformerLens");
            Error::InvalidOption { option: "site".into(), reason }
        })
    }
}

impl Config {
    /// Default site: `mlp.mid` where SoLU is followed by a LayerNorm, else `mlp.post`.
    pub fn default_site(&self) -> Site {
        if self.activation == Activation::SoluLn { Site::MlpMid } else { Site::MlpPost }
    }

    /// Number of neurons of a layer at a site.
    pub fn neurons_at(&self, site: Site) -> usize {
        match site {
            Site::MlpPre | Site::MlpMid | Site::MlpPost => self.d_mlp,
            Site::AttnZ => self.heads * self.d_head,
            Site::ResidPre | Site::AttnOut | Site::ResidMid | Site::MlpIn | Site::MlpOut | Site::ResidPost => {
                self.d_model
            }
        }
    }

    /// Refuses a site that the network does not have.
    ///
    /// # Errors
    /// [`Error::InvalidOption`].
    pub fn check_site(&self, site: Site) -> Result<()> {
        let reason = match site {
            Site::MlpMid if self.activation != Activation::SoluLn => {
                format!("mlp.mid exists in solu_ln models only; this one has {}: use mlp.post", self.activation)
            }
            Site::ResidMid if self.parallel => {
                "resid_mid does not exist in this model, whose attention and MLP read the same residual stream: use \
                 resid_pre or resid_post"
                    .into()
            }
            _ => return Ok(()),
        };
        Err(Error::InvalidOption { option: "site".into(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_transformer_lens() {
        let parse = |name: &str| name.parse::<SiteName>().map(|name| (name.site, name.layer)).ok();
        for site in Site::ALL {
            assert_eq!(parse(site.name()), Some((site, None)));
            for layer in [None, Some(0), Some(31)] {
                assert_eq!(parse(&SiteName { site, layer }.to_string()), Some((site, layer)));
            }
        }
        assert_eq!(SiteName { site: Site::AttnZ, layer: Some(3) }.to_string(), "blocks.3.attn.hook_z");
        for (name, site) in [
            ("hook_resid_pre", Site::ResidPre),
            ("hook_in", Site::ResidPre),
            ("hook_out", Site::ResidPost),
            ("mlp.hook_post", Site::MlpPost),
            ("mlp.out.hook_in", Site::MlpPost),
            ("attn.hook_z", Site::AttnZ),
            ("attn.o.hook_in", Site::AttnZ),
            ("hook_mlp_in", Site::MlpIn),
        ] {
            assert_eq!(parse(name), Some((site, None)), "{name}");
            assert_eq!(parse(&format!("blocks.12.{name}")), Some((site, Some(12))), "{name}");
        }
        for name in [
            "",
            "in",
            "out",
            "mlp",
            "post",
            "hook_",
            "mlp.hook_",
            "MLP.POST",
            "blocks.mlp.post",
            "blocks..mlp.post",
            "blocks.-1.mlp.post",
            "blocks.+1.mlp.post",
            "blocks.99999999999999999999.mlp.post",
            "mlp.hook_in",
            "mlp.hook_hook_post",
            "resid_post.",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
