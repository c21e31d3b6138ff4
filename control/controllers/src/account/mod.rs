//! Service accounts: the one that each namespace has, the authorities that it trusts, and tokens kept in secrets.

mod default;
mod root_ca;
mod token;

use crate::Controller;

/// Those who look after them.
pub(crate) fn all() -> Vec<Box<dyn Controller>> {
    vec![Box::new(default::Default), Box::new(root_ca::RootCa), Box::new(token::Tokens)]
}

#[cfg(test)]
mod tests;
