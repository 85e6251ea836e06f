// What the commands share that make model files: how a maker is started, what a
// terminal shows meanwhile, and what Ctrl-C does.
//
// Threads: one. Private to app.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/commands.h"
#include "base/result.h"
#include "formats/form.h"
#include "formats/make.h"
#include "library/creation.h"
#include "library/quantize_job.h"

namespace hearth::app {

[[nodiscard]] formats::Workshop workshop();

// The form that `text` names; "auto" by the parameters of `source`, a folder or a
// GGUF file, and the memory that is free now: see free_for_models(), also for `budget`.
[[nodiscard]] Result<formats::Form> form_for(std::string const& text, std::string const& source,
                                             std::uint64_t budget = 0);

// A model that may be served: `ID=FILE`, and the file that was made of that one, both as
// model_spec() takes them; and what keeps the latter where it is for as long as it is served.
struct ServableModel {
    std::string argument;
    std::string weights{};         // empty: nothing was made, or the whole model was
    std::shared_ptr<void> hold{};  // null: nobody removes it
    std::string made{}, source{};  // the file that was made, and what of; empty: nothing was
};
// What the commands are told to serve, made servable: a folder is converted, and the
// weights get the form of --quantize, by way of the cache of such models. A file
// that needs neither is left alone. Fails as formats::QuantCache::provide().
[[nodiscard]] Result<ServableModel> make_servable(std::string const& argument, std::vector<std::string> const& folders,
                                                  EngineFlags const& engine, std::uint64_t budget = 0);

// What a library serves models as that were not named: folders of safetensors in any case, files by
// --quantize, unless their weights are quantised already.
[[nodiscard]] library::Reshape reshaper(EngineFlags const& engine, std::uint64_t budget, bool original_meanwhile);

// What a library makes model files with. `order.form` may be "auto".
[[nodiscard]] Status make_model_file(library::MakeOrder const& order,
                                     std::function<bool(library::MakeProgress const&)> const& watch);

// What a file made in the usual way would have. REQUIRES: one thread
[[nodiscard]] unsigned usual_file_mode();

// While it lives, SIGINT, SIGTERM and SIGHUP stop what is made instead of the
// process, and a terminal has a line that says how far it is. One at a time.
class MakingLine {
public:
    MakingLine();
    ~MakingLine();
    MakingLine(MakingLine const&) = delete;
    MakingLine& operator=(MakingLine const&) = delete;

    // False once a signal came.
    bool show(formats::Progress const& progress);

private:
    bool const shown_;
    std::chrono::steady_clock::time_point last_;
};

}  // namespace hearth::app
