//! The protocol: sockets, start-up and authentication, messages, interrupts, error responses.

pub(crate) mod activity;
pub(crate) mod connection;
pub(crate) mod connection_slots;
pub(crate) mod encodings;
pub(crate) mod error_response;
pub(crate) mod framing;
pub(crate) mod interrupt;
mod layout;
pub(crate) mod server;
pub(crate) mod startup;
pub(crate) mod tls;
