//! What is the same for every route.
