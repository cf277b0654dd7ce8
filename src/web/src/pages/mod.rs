//! Pages. Each is made of the rows of statements, which its panels show.

pub(crate) mod compare;
pub(crate) mod console;
pub(crate) mod docs;
mod drawings;
mod html;
pub(crate) mod layer;
pub(crate) mod login;
pub(crate) mod model;
pub(crate) mod models;
pub(crate) mod neuron;
pub(crate) mod search;
pub(crate) mod text;

use std::sync::Arc;

use axum::extract::State;

use crate::error::PageFault;
use crate::routes::Shared;

type Site = State<Arc<Shared>>;
type Result<T> = std::result::Result<T, PageFault>;
