// A pool without models, for what only needs one to be there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serving/pool.h"

namespace hearth::api {

class FakePool : public serving::Pool {
public:
    Status add(serving::ModelSpec) override { return ok(); }
    Status join(std::string_view, serving::ModelSpec const&) override { return ok(); }
    Status warm(std::string_view, std::optional<Duration>) override { return ok(); }
    Status remove(std::string_view) override { return ok(); }
    Status unload(std::string_view) override { return ok(); }
    Status suspend(std::string_view, Error) override { return ok(); }
    Status resume(std::string_view) override { return ok(); }
    net::Task<Status> swap(std::string, serving::ModelSpec, Duration) override { co_return ok(); }
    void relieve(serving::Pressure) override {}
    Result<std::unique_ptr<serving::Generation>> submit(domain::GenerateRequest) override {
        return Error(Code::internal, "unused");
    }
    [[nodiscard]] Result<serving::ModelStatus> status(std::string_view) const override {
        return Error(Code::not_found, "unused");
    }
    [[nodiscard]] serving::PoolMemory memory() const override { return {}; }
    [[nodiscard]] std::vector<serving::ModelStatus> models() const override { return {}; }
    [[nodiscard]] std::uint32_t retry_after_s(std::string_view) const override { return 1; }
    [[nodiscard]] std::optional<std::uint32_t> predicted_wait_s(std::string_view, domain::Priority) const override {
        return 7;
    }
    net::Task<Result<std::vector<serving::EngineView>>> engine_views(std::string, Duration) override {
        co_return std::vector<serving::EngineView>(1);
    }
    [[nodiscard]] bool ready() const override { return true; }
    void drain() override {}
    net::Task<void> stop(Duration) override { co_return; }
};

}  // namespace hearth::api
