// PushJob: a push as a job: a model of this machine given to a registry.
//
// The progress text is one of: "retrieving manifest", "pushing sha256:HEX" with the
// bytes of all layers, "pushing manifest", "success".
//
// What is pushed is what the model is: its one file as it is, and what its definition
// says (template, system, params, messages, license), each as a layer.
//
// Threads: push_model() and a handler's run() block on the thread that calls them.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/result.h"
#include "catalog/catalog.h"
#include "fetch/sources/push.h"
#include "fetch/sources/reference.h"
#include "jobs/runner.h"
#include "library/puller.h"
#include "modelfile/definition.h"

namespace hearth::library {

// What somebody asks for.
struct PushWish {
    std::string model;  // its name here says where it goes: [host/][namespace/]model[:tag]
    bool insecure = false;  // without TLS; only this machine may be asked so
    bool operator==(PushWish const&) const = default;
};

// `invalid_argument` for a name that is none, and for `insecure` beyond this machine.
[[nodiscard]] Result<fetch::RegistryReference> target_of(PushWish const& wish);

// The model a wish means: by its name as it is, or as names are kept, with their tag.
[[nodiscard]] Result<catalog::Model> find_pushed(catalog::Catalog& catalog, PushWish const& wish);

[[nodiscard]] std::string to_payload(PushWish const& wish);
// `corrupt` for a payload that to_payload() did not write.
[[nodiscard]] Result<PushWish> push_from_payload(std::string const& payload);

// What is pushed.
struct PushSubject {
    std::string path;  // the model's file
    modelfile::Definition definition;
};

// `unsupported` for a split model; else as fetch::push(), `cancelled` after `stop`.
[[nodiscard]] Status push_model(Network const& network, fetch::PushOptions const& options, PushSubject const& subject,
                                fetch::RegistryReference const& target, fetch::PushListener const& listener,
                                std::stop_token const& stop);

class PushHandler final : public jobs::Handler {
public:
    // The model of that name.
    using Find = std::function<Result<PushSubject>(PushWish const&, std::stop_token const&)>;

    explicit PushHandler(Network network) : network_(std::move(network)) {}

    // REQUIRES: before the first job runs
    void set_find(Find find) { find_ = std::move(find); }

    [[nodiscard]] jobs::Outcome run(jobs::Context& context) override;

private:
    Network const network_;
    Find find_;
};

}  // namespace hearth::library
