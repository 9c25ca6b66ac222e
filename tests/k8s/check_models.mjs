// Validates custom resources by the models of their packages.
// node check_models.mjs FOLDER_WITH_NODE_MODULES < resources.json; prints one line per error.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const packages = {
  "keda.sh/v1alpha1": "keda/keda.sh/v1alpha1",
  "monitoring.coreos.com/v1": "prometheus-operator/monitoring.coreos.com/v1",
};

for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  const path = `node_modules/@kubernetes-models/${packages[resource.apiVersion]}/index.js`;
  const models = await import(pathToFileURL(resolve(process.argv[2], path)));
  try {
    new models[resource.kind](resource).validate();
  } catch (error) {
    console.log(`${resource.kind}: ${error.message}`);
  }
}
