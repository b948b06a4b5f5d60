// SPDX-License-Identifier: GPL-2.0

//! Detection of returns.

use crate::bindings;

/// The way in which the returns of a function are detected.
///
/// `Documentation/trace/uprobes.rst` describes the three ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detection {
    /// At return instructions by which no other function returns.
    OwnReturnInsns,
    /// At return instructions, for threads that have been seen to enter the function.
    ReturnInsns,
    /// Also at the return address of each call, because the function cannot be followed to its
    /// ends.
    ReturnAddress {
        /// An instruction after which the function cannot be followed.
        walk_end: usize,
    },
}

impl Detection {
    /// Converts the fields `detection` and `walk_end` of `struct uprobe_counts`.
    pub fn from_raw(detection: bindings::uprobe_detection, walk_end: usize) -> Option<Self> {
        match detection {
            bindings::uprobe_detection_UPROBE_OWN_RETURN_INSNS => Some(Self::OwnReturnInsns),
            bindings::uprobe_detection_UPROBE_RETURN_INSNS => Some(Self::ReturnInsns),
            bindings::uprobe_detection_UPROBE_RETURN_ADDRESS => {
                Some(Self::ReturnAddress { walk_end })
            }
            _ => None,
        }
    }

    /// Converts to the fields `detection` and `walk_end` of `struct uprobe_counts`.
    pub fn into_raw(self) -> (bindings::uprobe_detection, usize) {
        match self {
            Self::OwnReturnInsns => (bindings::uprobe_detection_UPROBE_OWN_RETURN_INSNS, 0),
            Self::ReturnInsns => (bindings::uprobe_detection_UPROBE_RETURN_INSNS, 0),
            Self::ReturnAddress { walk_end } => {
                (bindings::uprobe_detection_UPROBE_RETURN_ADDRESS, walk_end)
            }
        }
    }
}
