// The command line of the commands that are about models.
//
// Threads: one. Private to app.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "app/commands.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
class Option;
}  // namespace CLI

namespace hearth::app {

// What the chosen command runs; set by its callback.
using Action = std::function<int()>;

// Outlives the parsing and the action.
struct ModelFlags {
    PullFlags pull;
    CheckFlags check;
    ListFlags list;
    ShowFlags show;
    ImportFlags import_models;
    ChangeFlags remove, copy, trust;
    ConvertFlags convert;
    CreateFlags create;
    PushFlags push;
    QuantizeFlags quantize;
    PsFlags ps;
    StopFlags stop;
    EstimateFlags estimate;
};

// pull, check, list, show, import, rm, cp, trust, create, push, convert, quantize, ps, stop, estimate
void add_model_commands(CLI::App& app, ModelFlags& flags, Action& action);

// Which models `serve` has, and may get
void add_library_flags(CLI::App& command, ServeFlags& flags);

// --known-models, of every command that pulls
CLI::Option* add_known_models(CLI::App& command, std::string& file);

// How long they stay in memory, and how much of it they take
void add_memory_flags(CLI::App& command, ServeFlags& flags);

// --models-dir, of every command that looks a model up by its name
void add_models_dir(CLI::App& command, std::vector<std::string>& folders);

}  // namespace hearth::app
