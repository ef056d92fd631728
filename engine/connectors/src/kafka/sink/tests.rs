//! What needs no broker: settings, columns, values.
