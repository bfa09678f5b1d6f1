//! Floor 9: builds the house floor by floor.
