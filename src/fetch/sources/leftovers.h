// Leftovers: what pulls and creates that ended with their process left in a models folder, and
// nobody goes on with.
//
// Files that get their name when they are whole (NAME.new) are of no use after a crash. Notes, states
// of downloads and adapters go at once: who writes them holds a lock, and with that in hand nobody is at
// them. Where locks may not tell (file systems that are not known to be of one machine), and models, whose
// NAME.gguf.new other programs may be writing, go when they are an hour old, and no lock is held
// on them either. A download under way (PATH.partial and its state) is of use
// to the next pull of the same model: it goes when it was not touched for kPartialKept, no
// process holds it and no job owns it. It is deleted under its lock, so that nobody goes on
// with what is going.
//
// Threads: none; blocks on the disk. Limits: kLeftoversSeen entries are looked at, in the
// folder and kLeftoverFolders deep in those in it, as deep as a plan's files lie.
#pragma once

#include <chrono>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace hearth::fetch {

inline constexpr std::size_t kLeftoversSeen = 100'000;
inline constexpr int kLeftoverFolders = 2;
inline constexpr std::chrono::hours kNewKept{1};
inline constexpr std::chrono::hours kPartialKept{24};

// `owned`: names, below the folder, of files that jobs are at. A job that is at a file of a folder
// is at all of that folder: jobs do not list every file of a large model. Says what went, below
// the folder; what cannot be deleted stays without a word.
std::vector<std::string> sweep_leftovers(std::string const& folder, std::set<std::string> const& owned,
                                         std::chrono::system_clock::time_point now);

}  // namespace hearth::fetch
