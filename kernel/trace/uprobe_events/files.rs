// SPDX-License-Identifier: GPL-2.0

//! The files in tracefs.

use crate::event::UserProbe;
use kernel::{
    seq_file::{
        seq_print,
        SeqFile, //
    },
    str::CStr,
    trace_probe::{
        EventFile,
        Linked, //
    },
};

/// `uprobe_events`: takes lines, and lists the probes as lines that would make them.
pub(crate) struct Control;

impl EventFile for Control {
    type Event = UserProbe;

    const NAME: &'static CStr = c"uprobe_events";
    const IS_CONTROL: bool = true;

    fn show(probe: &Linked<'_, UserProbe>, m: &SeqFile) {
        probe.show(m);
    }
}

/// `uprobe_profile`: counts the hits or returns of each probe, and apart from these those that were
/// lost. A probe that has been disarmed is marked.
pub(crate) struct Profile;

impl EventFile for Profile {
    type Event = UserProbe;

    const NAME: &'static CStr = c"uprobe_profile";
    const IS_CONTROL: bool = false;

    fn show(probe: &Linked<'_, UserProbe>, m: &SeqFile) {
        let place = probe.probe().place();

        seq_print!(m, "  ");
        place.show_place(m, place.number());
        seq_print!(
            m,
            " {:<44} {:>15} {:>15}",
            probe.name().to_str().unwrap_or_default(),
            place.hits.sum(),
            UserProbe::misses(probe),
        );
        if UserProbe::is_disarmed(probe) {
            seq_print!(m, " disarmed");
        }
        seq_print!(m, "\n");
    }
}
