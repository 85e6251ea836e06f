// The command line: what the exit codes mean, and the program's one entry.
#pragma once

#include <string>
#include <vector>

namespace hearth::app {

// Exit codes, for scripts; never renumbered.
inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitModelMissing = 3;
inline constexpr int kExitUnreachable = 4;
inline constexpr int kExitInterrupted = 130;

// Parses and runs; returns the exit code. `arguments` without the program's name.
int run_command_line(std::vector<std::string> arguments);

}  // namespace hearth::app
