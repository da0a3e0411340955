import { library } from "../../tsup.base.ts";

export default library(["src/index.ts", "src/buildah.ts", "src/fake.ts"]);
