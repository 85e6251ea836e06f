// Creation: a model on its way, made of another one or of uploaded files.
//
// What takes long, converting and quantising, is done by make_weights() on a thread
// of its own; what it says comes to the loop.
//
// Threads:   a Creation is the loop's, but for report(); make_weights() is any one
//            thread's and blocks.
// Ownership: Weights hold the folders they lie in: dropped, the files are gone.
// Limits:    kCreateFilesMax files; a Creation keeps at most one step of a kind that
//            nobody took yet.
// Errors:    `invalid_argument` for files that are no model's, `not_found` for what was
//            not uploaded, `unsupported`, `cancelled`, and those of BlobStore and MakeFile.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "catalog/create.h"
#include "catalog/layouts.h"
#include "library/blobs.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::library {

inline constexpr std::size_t kCreateFilesMax = 256;
inline constexpr std::size_t kAdapterFilesMax = 4 * modelfile::kAdaptersMax;
inline constexpr std::size_t kCreationsMax = 16;  // that wait for one another

// How a model file is made of another one, of a folder as hubs publish models, or of one with an
// adapter as PEFT saves it.
struct MakeOrder {
    std::string source;
    std::string output;  // does not exist yet
    std::string form;    // a type or a profile; empty: the weights as they are
    std::string base{};  // of a folder with a LoRA adapter: the GGUF file it is for; else empty
};
struct MakeProgress {
    bool quantizing = false;  // else converting
    std::uint64_t done = 0, total = 0;
};
// Blocks; false from the watcher stops it. Called on a thread of the library's.
using MakeFile = std::function<Status(MakeOrder const&, std::function<bool(MakeProgress const&)> const&)>;
// How a file is copied to a path that is not there yet. Blocks; the watcher is told the bytes so far, and false from
// it stops that with `cancelled`.
using CopyFile = std::function<Status(std::string const& from, std::string const& to,
                                      std::function<bool(std::uint64_t done)> const& watch)>;

struct CreateOrder {
    std::string name;
    modelfile::Modelfile modelfile;  // `from` is a model's name, or empty where there are files
    // Name and digest: of one GGUF file, of all of a split one, or of a folder's.
    std::vector<std::pair<std::string, std::string>> files;
    // The same of LoRA adapters, for `modelfile.adapters`, at most modelfile::kAdaptersMax: each one GGUF file,
    // or adapter_config.json and adapter_model.safetensors, of several each pair in a FOLDER/ of its own.
    std::vector<std::pair<std::string, std::string>> adapters;
    std::string quantize;  // a type or a profile; empty: the weights as they are
};

struct CreateStep {
    std::string text;
    std::uint64_t done = 0, total = 0;  // total 0: a word, not a way
};

class Creation {
public:
    explicit Creation(net::Loop& loop) : loop_(loop), changed_(loop) {}

    // What was said since the last call; of a long step how far it is by now.
    [[nodiscard]] std::vector<CreateStep> take_news() { return std::exchange(news_, {}); }
    // Null until it is over.
    [[nodiscard]] Result<catalog::Created> const* result() const { return result_ ? &*result_ : nullptr; }
    // False when `timeout` passed first.
    net::Task<bool> changed_within(Duration timeout) { return changed_.wait_for(timeout); }
    // Ends it soon, and nothing is left; what was created already stays.
    void cancel() { stop_.request_stop(); }

    void say(CreateStep step);
    void finish(Result<catalog::Created> result);

    // For who makes it, on whatever thread: says it on the loop; of a long step the
    // loop is told no more than it takes.
    static void report(std::shared_ptr<Creation> const& creation, CreateStep step);
    [[nodiscard]] std::stop_token stop() const { return stop_.get_token(); }

private:
    net::Loop& loop_;
    net::Signal changed_;
    std::vector<CreateStep> news_;
    std::optional<Result<catalog::Created>> result_;
    std::stop_source stop_;
    std::atomic<bool> told_ = false;  // a step is on its way to the loop
};

// What a model gets its weights from.
struct Weights {
    catalog::NewWeights files;           // none: the other model's
    std::vector<std::string> adapters;   // GGUF files, in the order in which they were named
    std::vector<StagingFolder> folders;  // that all of them lie in
    // Of the other model's files that were copied to there: as they were before.
    std::vector<catalog::ModelFile> copied{};
};

// Files of models here, by the digest they are recorded to have (64 digits): they need not be uploaded.
// Links may lead to them.
using KnownFiles = std::map<std::string, std::string, std::less<>>;

struct WeightsOrder {
    std::string from;  // the other model's file or folder; empty: of `files`
    std::vector<std::pair<std::string, std::string>> files;
    std::string quantize;
    // What is made is made there, and uploaded files of another file system are copied there,
    // so that the model is a link of it.
    std::string models_folder;
    KnownFiles known{};
    bool folder = false;  // `from` is a folder of safetensors
    bool in_place = false;  // the model is called as `from` is: it may be the one that it replaces
    std::vector<std::pair<std::string, std::string>> adapters{};  // as of CreateOrder

    // Nothing is made of the other model's.
    [[nodiscard]] bool as_they_are() const { return files.empty() && quantize.empty() && !folder; }
};

[[nodiscard]] Result<Weights> make_weights(WeightsOrder const& order, BlobStore const& blobs, MakeFile const& make,
                                           std::function<void(CreateStep)> const& say,
                                           std::function<bool()> const& stopped);

// Uploaded adapters become `weights.adapters`; those of PEFT are converted for the model that the order is
// about. Fails as make_weights(), with `adapters` as what it is about.
[[nodiscard]] Status add_adapters(Weights& weights, WeightsOrder const& order, BlobStore const& blobs,
                                  MakeFile const& make, std::function<bool()> const& stopped);
// What says where they lie says so no more.
[[nodiscard]] Error about_adapters(Error error, Weights const& weights);

}  // namespace hearth::library
