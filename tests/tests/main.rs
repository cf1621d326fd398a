//! What crosses packages. One module for each question.

mod audit;
mod health;
mod hostile;
mod layers;
mod members;
mod supervision;
