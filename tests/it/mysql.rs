//! What only MySQL can be asked.
