// The kinds of jobs a library has, and what of them is told to clients.
//
// Threads: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "jobs/job.h"

namespace hearth::library {

inline constexpr std::string_view kPullKind = "pull";        // pull_job.h
inline constexpr std::string_view kPushKind = "push";        // push_job.h
inline constexpr std::string_view kVerifyKind = "verify";    // reads a model whole: somebody waits for it
inline constexpr std::string_view kReadKind = "read";        // the same, quietly, at its first use
inline constexpr std::string_view kRestoreKind = "restore";  // fetches a damaged model again
inline constexpr std::string_view kQuantizeKind = "quantize";  // quantize_job.h

[[nodiscard]] bool is_job_kind(std::string_view text);

// The model a job is about; empty where it does not say.
[[nodiscard]] std::string model_of(jobs::Job const& job);

}  // namespace hearth::library
