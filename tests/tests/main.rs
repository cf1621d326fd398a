//! What crosses packages. One module for each question.

mod audit;
mod failures;
mod health;
mod hostile;
mod layers;
mod members;
mod otp;
mod properties;
mod shutdown;
mod supervision;
