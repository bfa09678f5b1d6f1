//! Floor 8: the whole path of one request, on one page.
