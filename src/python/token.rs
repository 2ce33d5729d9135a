//! A user's function that returns tokens for SASL OAUTHBEARER.

use super::{functions, guard};
use crate::kafka::{Token, TokenSource};
use crate::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// `bayou._security.Tokens`: it calls the user's function, and reads what the function returns.
pub(super) struct PyTokens(pub Py<PyAny>);

impl TokenSource for PyTokens {
    fn token(&self) -> Result<Token> {
        functions::enter(|py| {
            let made = guard::call(self.0.bind(py), &PyTuple::empty(py));
            let (value, principal, expires): (String, String, i64) = made
                .and_then(|made| made.extract())
                // The text is from `_security`, and shows no text of the user's function.
                .map_err(|e| Error::auth(functions::text_of(py, &e)))?;
            Ok(Token { value, principal, expires })
        })?
    }
}
