// The command line: what the exit codes mean, and the program's one entry.
#pragma once

#include <string>
#include <vector>

namespace hearth::app {

// For scripts; never renumbered.
enum Exit : int {
    kExitOk = 0,
    kExitError = 1,
    kExitUsage = 2,
    kExitModelMissing = 3,
    kExitUnreachable = 4,
    kExitInterrupted = 130,
};

// Parses and runs; returns the exit code. `arguments` without the program's name.
int run_command_line(std::vector<std::string> arguments);

}  // namespace hearth::app
