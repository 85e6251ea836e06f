// PushJob: a push as a job: a model of this machine given to a registry.
//
// The progress text is one of: "retrieving manifest", "pushing sha256:HEX", "pushing
// manifest", "success"; its parts are the layers.
//
// What is pushed is what the model is: its one file as it is, its adapters, and what its
// definition says (template, system, params, messages, license), each as a layer. A model of
// several files is refused: a manifest of Ollama's has one layer for a model.
//
// Threads: push_model() and a handler's run() block on the thread that calls them.
#pragma once

#include <functional>
#include <memory>
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
// `unavailable`, with kDamaged as `param`, for one that is damaged or may be.
[[nodiscard]] Result<catalog::Model> find_pushed(catalog::Catalog& catalog, PushWish const& wish);

[[nodiscard]] std::string to_payload(PushWish const& wish);
// `corrupt` for a payload that to_payload() did not write.
[[nodiscard]] Result<PushWish> push_from_payload(std::string const& payload);

// What is pushed.
struct PushSubject {
    std::string name;
    std::string path;  // the model's file
    modelfile::Definition definition;
    std::shared_ptr<fetch::UploadPlaces> places{};  // of pushes that broke off; may be null
};

// `unsupported` for a split model and for an adapter with a scale; else as fetch::push(), `cancelled` after `stop`.
[[nodiscard]] Status push_model(Network const& network, fetch::PushOptions const& options, PushSubject const& subject,
                                fetch::RegistryReference const& target, fetch::PushListener const& listener,
                                std::stop_token const& stop);

class PushHandler final : public jobs::Handler {
public:
    // The model of that name.
    using Find = std::function<Result<PushSubject>(PushWish const&, std::stop_token const&)>;

    // `places_file`: where uploads that broke off are remembered.
    PushHandler(Network network, std::string const& places_file)
        : network_(std::move(network)), places_(std::make_shared<fetch::UploadPlaces>(places_file)) {}

    // Why a job of that id failed, before that is written down.
    using Tell = std::function<void(std::string const& id, Error const& why)>;

    // REQUIRES: before the first job runs
    void set_find(Find find) { find_ = std::move(find); }
    void set_tell(Tell tell) { tell_ = std::move(tell); }

    [[nodiscard]] jobs::Outcome run(jobs::Context& context) override;

private:
    [[nodiscard]] jobs::Outcome push(jobs::Context& context) const;

    Network const network_;
    // One push at a time: what broke off is gone on with by the next one.
    std::shared_ptr<fetch::UploadPlaces> const places_;
    Find find_;
    Tell tell_;
};

}  // namespace hearth::library
