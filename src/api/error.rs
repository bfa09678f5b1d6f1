//! The one translator: errors of the rooms become HTTP here and nowhere else.
