#include "app/template_trust.h"

#include <fstream>

#include <gtest/gtest.h>

#include "catalog/catalog.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::app {
namespace {

using models::testing::tiny_llama;

class template_trust : public ::testing::Test {
protected:
    void write(std::string const& chat_template) const {
        std::ofstream(file, std::ios::binary) << tiny_llama().text("tokenizer.chat_template", chat_template).build();
    }
    hearth::testing::TemporaryFolder folder, data;
    std::string const file = folder / "m.gguf";
    TrustedModel const model{"m", file, file};
};

TEST_F(template_trust, another_template_is_refused_until_it_is_confirmed) {
    write("{{ messages }}");
    EXPECT_TRUE(check_trust(model, data.path()));
    EXPECT_TRUE(check_trust(model, data.path()));
    write("{{ hacked }}");
    auto const refused = check_trust(model, data.path());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::unsupported);
    EXPECT_NE(refused.error().message.find("hearth trust " + file), std::string::npos) << refused.error().message;
    ASSERT_TRUE(confirm_trust("m", file, data.path()));
    EXPECT_TRUE(check_trust(model, data.path()));
}

TEST_F(template_trust, what_a_run_saw_holds_for_the_catalog_and_the_other_way_round) {
    write("{{ messages }}");
    EXPECT_TRUE(check_trust({"another name", file, file}, data.path()));
    {
        auto const catalog = catalog::Catalog::open(data / "catalog.db", catalog::Access::read_write);
        ASSERT_TRUE(catalog && (*catalog)->scan({folder.path()}));
        auto const found = (*catalog)->find("m");
        ASSERT_TRUE(found);
        EXPECT_EQ(found->template_pinned, found->template_sha256);
    }
    write("{{ hacked }}");
    EXPECT_FALSE(check_trust(model, data.path())) << "before a scan has seen it";
}

TEST_F(template_trust, a_model_is_trusted_by_its_name_and_by_its_path_whatever_its_file_is_called) {
    write("{{ messages }}");
    {
        auto const catalog = catalog::Catalog::open(data / "catalog.db", catalog::Access::read_write);
        ASSERT_TRUE(catalog && (*catalog)->scan({folder.path()}));
    }
    TrustedModel const by_path{"sha256-abc", file, file};
    EXPECT_TRUE(check_trust(model, data.path()));
    EXPECT_TRUE(check_trust(by_path, data.path()));
    write("{{ hacked }}");
    auto const refused = check_trust(model, data.path());
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("`hearth trust m`"), std::string::npos) << refused.error().message;
    auto const by_file = check_trust(by_path, data.path());
    ASSERT_FALSE(by_file);
    EXPECT_NE(by_file.error().message.find("`hearth trust " + file + "`"), std::string::npos)
        << by_file.error().message;
    ASSERT_TRUE(confirm_trust("sha256-abc", file, data.path()));
    EXPECT_TRUE(check_trust(by_path, data.path()));
    EXPECT_TRUE(check_trust(model, data.path())) << "what is trusted is the file";
}

TEST_F(template_trust, without_a_folder_nothing_is_remembered) {
    write("{{ messages }}");
    EXPECT_TRUE(check_trust(model, ""));
    write("{{ hacked }}");
    EXPECT_TRUE(check_trust(model, ""));
    EXPECT_EQ(confirm_trust("m", file, "").error().code, Code::unavailable);
}

}  // namespace
}  // namespace hearth::app
