//! Registry of the models of a process by name, and the threads that run them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::pool::Pool;
use crate::{Error, Model, Result};

/// Registry of models by name. Returned `Arc`s stay valid when a model is removed.
#[derive(Debug)]
pub struct Registry {
    models: RwLock<BTreeMap<String, Arc<Model>>>,
    pool: Pool,
}

impl Registry {
    /// Makes an empty registry whose models run on `threads` threads.
    ///
    /// # Errors
    /// [`Error::Internal`] if they cannot be started.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Self { models: RwLock::default(), pool: Pool::new(threads)? })
    }

    /// Pool of the threads that run forward passes.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns the model of this name.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if there is none.
    pub fn get(&self, name: &str) -> Result<Arc<Model>> {
        self.get_among(name, |_| true)
    }

    /// Returns the model of this name. The error lists the models that `is_listed` returns true for.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if there is none.
    pub fn get_among(&self, name: &str, is_listed: impl Fn(&str) -> bool) -> Result<Arc<Model>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(name).cloned().ok_or_else(|| {
            let known = models.keys().filter(|known| is_listed(known)).cloned().collect();
            Error::UnknownModel { name: name.into(), known }
        })
    }

    /// Returns all models, in the order of their names.
    pub fn list(&self) -> Vec<Arc<Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Adds a model.
    ///
    /// # Errors
    /// [`Error::DuplicateModel`] if its name is taken.
    pub fn insert(&self, model: Arc<Model>) -> Result<()> {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if models.contains_key(model.name()) {
            return Err(Error::DuplicateModel(model.name().into()));
        }
        models.insert(model.name().into(), model);
        Ok(())
    }

    /// Removes a model; running queries keep it until they end.
    pub fn remove(&self, name: &str) -> Option<Arc<Model>> {
        self.models.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }
}
