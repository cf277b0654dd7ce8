//! Taps: where a block is read, and where its values are replaced.

use candle_core::{Device, Tensor};

use super::select;
use crate::ops::elements;
use crate::{Error, LayerReadSpec, Result, Site};

/// Replacement of neurons of a layer by values, on all tokens.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub site: Site,
    /// Neurons and their values.
    pub values: Vec<(u32, f32)>,
}

/// The values that a block is read for, and those found.
#[derive(Debug)]
pub(crate) struct Tap<'a> {
    sites: &'a [Site],
    rows: Option<&'a Tensor>,
    read: Option<&'a LayerReadSpec>,
    edit: Option<&'a Edit>,
    /// Values at `sites`, in the order of the block's computation.
    pub found: Vec<Tensor>,
}

impl<'a> Tap<'a> {
    /// Makes a tap that reads nothing.
    pub fn none() -> Self {
        Self { sites: &[], rows: None, read: None, edit: None, found: Vec::new() }
    }

    /// Makes a tap of some rows and neurons at some sites.
    pub fn of(sites: &'a [Site], rows: Option<&'a Tensor>, read: Option<&'a LayerReadSpec>) -> Self {
        Self { sites, rows, read, ..Self::none() }
    }

    /// Makes a tap that replaces values.
    pub fn editing(edit: Option<&'a Edit>) -> Self {
        Self { edit, ..Self::none() }
    }

    /// Returns true if the values of a site are read or replaced.
    pub fn is_at(&self, site: Site) -> bool {
        self.reads(site) || self.edit_at(site).is_some()
    }

    /// Returns true if the values of a site are read.
    pub fn reads(&self, site: Site) -> bool {
        self.sites.contains(&site)
    }

    /// Replacement of values of a site.
    pub fn edit_at(&self, site: Site) -> Option<&'a Edit> {
        self.edit.filter(|edit| edit.site == site)
    }

    /// Neurons to read; `None` for all.
    pub fn neurons(&self) -> Option<&'a [u32]> {
        self.read.and_then(|read| read.neurons.as_deref())
    }

    /// Passes the values of a site, `[tokens, neurons or more]`: reads them and replaces some. Of more columns than the
    /// site has neurons, the first are those of its neurons.
    pub fn at(&mut self, site: Site, value: Tensor, neurons: usize) -> Result<Tensor> {
        if self.reads(site) {
            let width = value.dim(1)?;
            let own = if width == neurons { value.clone() } else { value.narrow(1, 0, neurons)?.contiguous()? };
            let columns = self.read.and_then(|read| read.columns.as_ref());
            let taken = match columns {
                Some(columns) => select(own, self.rows)?.index_select(columns, 1)?,
                None if self.rows.is_none() && site.is_overwritten() => own.copy()?,
                None => select(own, self.rows)?,
            };
            self.found.push(taken);
        }
        let Some(edit) = self.edit_at(site) else { return Ok(value) };
        let (rows, width) = value.dims2()?;
        let mut values = elements(&value)?;
        for row in values.chunks_exact_mut(width) {
            edit.values.iter().for_each(|(neuron, value)| row[*neuron as usize] = *value);
        }
        Ok(Tensor::from_vec(values, (rows, width), &Device::Cpu)?.to_dtype(value.dtype())?.to_device(value.device())?)
    }

    /// Adds values that are of the neurons to read already, of all tokens.
    pub fn give(&mut self, values: Tensor) -> Result<()> {
        self.found.push(select(values, self.rows)?);
        Ok(())
    }

    /// Returns the values of the only site.
    pub fn only(mut self) -> Result<Tensor> {
        self.found.pop().ok_or_else(|| Error::Internal("a block has no values of the site".into()))
    }
}
